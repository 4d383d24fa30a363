"""Linear layers in fewer weights: an SVD that knows what they read, and 8 bits to measure it by.

The method of OD-LLM (Xia, Yin and Culpepper, WSDM 2026, arXiv 2601.09306), of which no code is public; the
algebra of whitening is that of SVD-LLM (Wang et al., 2024, arXiv 2403.07378). A layer's W is replaced by two
layers AB of rank r, chosen so that the outputs of prompts change least. See `compress`.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from trsr.errors import ModelError
from trsr.progress import Progress

_RIDGE: Final = 1e-6
"""What is added to the inputs' second moments, as a share of their mean: too few prompts are no failure."""


class Factors(nn.Sequential):
    """Two linear layers in place of one, ``y = A (B x) + bias``."""

    def __init__(self, inputs: int, rank: int, outputs: int, bias: bool) -> None:
        super().__init__(nn.Linear(inputs, rank, bias=False), nn.Linear(rank, outputs, bias=bias))

    @property
    def layers(self) -> tuple[nn.Linear, nn.Linear]:
        """B, then A with the bias."""
        return cast(nn.Linear, self[0]), cast(nn.Linear, self[1])

    @property
    def rank(self) -> int:
        """How many numbers are left between the two."""
        return self.layers[0].out_features


def ranks_of(model: nn.Module) -> dict[str, int]:
    """Name the layers of a model that are factors, with their ranks."""
    return {name: part.rank for name, part in model.named_modules() if isinstance(part, Factors)}


def factorised(config: Any, ranks: Mapping[str, int]) -> type[PreTrainedModel]:
    """Give the class of a causal language model some of whose linear layers are `Factors`, to be loaded."""
    kind = cast(type[Any], MODEL_FOR_CAUSAL_LM_MAPPING[type(config)])

    def init(self: Any, config: Any, *args: Any, **options: Any) -> None:
        kind.__init__(self, config, *args, **options)
        for name, rank in ranks.items():
            linear = self.get_submodule(name)
            place = Factors(linear.in_features, rank, linear.out_features, linear.bias is not None)
            self.set_submodule(name, place.to(linear.weight.dtype))

    # transformers writes the name of the class into config.json.
    return cast(type[PreTrainedModel], type(kind.__name__, (kind,), {"__init__": init}))


@dataclass(frozen=True, slots=True)
class LayerError:
    """What the compression of one layer changes, on the prompts that it was calibrated by.

    Parameters
    ----------
    rank
        None where the layer was left as it is.
    alone
        Error of its outputs from what it read in the original model, ``||Y - Y'|| / ||Y||``, 0 to 1 and more.
    in_place
        The same from what it reads behind layers that are compressed, too.
    """

    name: str
    rank: int | None
    alone: float
    in_place: float


@torch.no_grad()
def compress(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    keep: float,
    *,
    whiten: bool = True,
    align: bool = True,
    title: str | None = None,
) -> list[LayerError]:
    """Replace the linear layers of a model's blocks by two smaller ones each, in place; the head stays.

    Parameters
    ----------
    prompts
        Token ids of what the model is going to read, of training users alone.
    keep
        Share of the layers' weights to be kept: the rank is ``floor(keep m n / (m + n))``. From 1 on nothing
        is changed, since more would be larger than the layer.
    whiten
        Weigh errors by what a layer reads: of ``W L`` the largest singular values are kept, where ``L L^T``
        are the second moments of its inputs. Without, errors of all directions count alike: plain SVD.
    align
        Calibrate each layer on what it reads when those before are compressed already, to give what the
        original gives: the best factors of rank r in the least squares of ``W X`` on ``X'``.
    title
        What the progress says; None to say nothing.

    Raises
    ------
    ModelError
        When the model has no blocks with linear layers, or weights of 8 or 4 bits.
    """
    blocks = _blocks(model)
    own, told = _first_inputs(model, blocks, prompts)
    reached, errors = own, []
    with Progress(title or "", len(blocks), "blocks", shown=title is not None) as bar:
        for (place, block), options in zip(blocks, told, strict=True):
            read, own = _read(block, own, options)
            weights = {name: cast(nn.Linear, block.get_submodule(name)).weight.double() for name in read}
            met, moments = read, None
            for name, inputs in read.items():
                linear = cast(nn.Linear, block.get_submodule(name))
                rank = max(1, int(keep * linear.weight.numel() / sum(linear.weight.shape)))
                if keep >= 1:
                    continue
                if align and (moments is None or inputs is not moments):
                    # Layers that read the same thing, such as queries and keys, are calibrated by one look.
                    met, moments = _read(block, reached, options)[0], inputs
                factors = factorise(linear.weight, inputs, met[name], rank, whiten=whiten, align=align)
                block.set_submodule(name, _factors(linear, *factors))
            met, reached = _read(block, reached, options, tuple(read))
            for name, weight in weights.items():
                wanted = read[name].double() @ weight.T
                layer = block.get_submodule(name)
                rank_now = layer.rank if isinstance(layer, Factors) else None
                alone, in_place = (_error(layer, inputs[name], wanted) for inputs in (read, met))
                errors.append(LayerError(f"{place}.{name}", rank_now, alone, in_place))
            bar.advance()
    return errors


def factorise(
    weight: Tensor, original: Tensor, met: Tensor, rank: int, *, whiten: bool = True, align: bool = True
) -> tuple[Tensor, Tensor]:
    """Return A ``(m, rank)`` and B ``(rank, n)`` of a layer of weights ``(m, n)``, in float64.

    Rows of `original` are what the layer reads in the original model, those of `met` what it reads now,
    ``(n_tokens, n)``.

    Examples
    --------
    >>> weight, inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[9.0, 0.0], [0.0, 1.0]])
    >>> a, b = factorise(weight, inputs, inputs, 1)
    >>> (a @ b).abs().round().tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    target, inputs = weight.double(), met.double()
    moments = inputs.T @ inputs / len(inputs)
    ridge = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    ridge = ridge * (_RIDGE * moments.diagonal().mean()).clamp(min=torch.finfo(moments.dtype).tiny)
    root = _root(moments + ridge)
    if align and met is not original:
        crossed = original.double().T @ inputs / len(inputs)
        target = torch.cholesky_solve((target @ (crossed + ridge)).T, root).T
    root = root if whiten else torch.eye(len(root), dtype=root.dtype, device=root.device)
    left, values, right = torch.linalg.svd(target @ root, full_matrices=False)
    share = values[:rank].sqrt()
    below = torch.linalg.solve_triangular(root, right[:rank], upper=False, left=False)
    return left[:, :rank] * share, share[:, None] * below


def _root(moments: Tensor) -> Tensor:
    """Return lower triangular L with ``L L^T`` the moments, or the nearest that is positive definite."""
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(moments)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(moments)
    values = values.clamp(min=_RIDGE * values.max().clamp(min=torch.finfo(values.dtype).eps))
    root = torch.linalg.qr(values.sqrt()[:, None] * vectors.T).R.T
    return root


def _factors(linear: nn.Linear, a: Tensor, b: Tensor) -> Factors:
    made = Factors(linear.in_features, len(b), linear.out_features, linear.bias is not None)
    made = made.to(linear.weight.device, linear.weight.dtype)
    first, second = made.layers
    first.weight.copy_(b)
    second.weight.copy_(a)
    if linear.bias is not None:
        second.bias.copy_(linear.bias)
    return made.requires_grad_(linear.weight.requires_grad).eval()


def _error(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> float:
    bias = (layer.layers[1] if isinstance(layer, Factors) else cast(nn.Linear, layer)).bias
    got = layer(inputs).double() - (0 if bias is None else bias.double())
    return float((wanted - got).norm() / wanted.norm().clamp(min=torch.finfo(wanted.dtype).tiny))


def _blocks(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Find the blocks that a model is a stack of, by name."""
    stacks = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    if getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False):
        message = "weights of 8 or 4 bits can't be compressed again: train with quantization: none"
        raise ModelError(message)
    name, stack = max(stacks, key=lambda each: len(each[1]), default=("", nn.ModuleList()))
    if not any(type(part) is nn.Linear for part in stack.modules()):
        message = (
            f"{type(model).__name__} has no blocks with linear layers (torch.nn.Linear), which alone are "
            "compressed; take a model such as Qwen, Llama or the built-in one"
        )
        raise ModelError(message)
    return [(f"{name}.{place}", block) for place, block in enumerate(stack)]


_Options = list[dict[str, Any]]


def _first_inputs(
    model: PreTrainedModel, blocks: Sequence[tuple[str, nn.Module]], prompts: Sequence[Sequence[int]]
) -> tuple[list[Tensor], list[_Options]]:
    """Return what the first block reads, a prompt each, and what else each block is told with it."""
    firsts: list[Tensor] = []
    told: list[_Options] = [[] for _ in blocks]

    def note(place: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
            told[place].append(options)
            if place == 0:
                firsts.append(args[0])

        return hook

    hooks = [
        block.register_forward_pre_hook(note(place), with_kwargs=True)
        for place, (_, block) in enumerate(blocks)
    ]
    try:
        for prompt in prompts:
            model(input_ids=torch.tensor([list(prompt)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return firsts, told


def _read(
    block: nn.Module, hidden: Sequence[Tensor], options: _Options, names: Sequence[str] | None = None
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Send prompts through a block: what its linear layers read, in their order, and what the block gives.

    `names` are the layers to look at, None for all linear ones. Those that read the same have the same
    tensor.
    """
    seen: dict[str, list[Tensor]] = {}
    looked = [
        (name, part)
        for name, part in block.named_modules()
        if (name in names if names is not None else _is_layer(name, part, block))
    ]

    def note(name: str) -> Callable[..., None]:
        return lambda _, args: seen.setdefault(name, []).append(args[0])

    hooks = [part.register_forward_pre_hook(note(name)) for name, part in looked]
    try:
        given = [block(inputs, **told) for inputs, told in zip(hidden, options, strict=True)]
    finally:
        for hook in hooks:
            hook.remove()
    joined: dict[int, Tensor] = {}
    for parts in seen.values():
        if id(parts[0]) not in joined:
            joined[id(parts[0])] = torch.cat([part.flatten(0, -2) for part in parts])
    read = {name: joined[id(parts[0])] for name, parts in seen.items()}
    return read, [each[0] if isinstance(each, tuple) else each for each in given]


def _is_layer(name: str, part: nn.Module, block: nn.Module) -> bool:
    """Whether it is a linear layer, or the factors of one, and not a factor."""
    if isinstance(part, Factors):
        return True
    return type(part) is nn.Linear and not isinstance(block.get_submodule(name.rpartition(".")[0]), Factors)


def in_8_bits(model: PreTrainedModel) -> PreTrainedModel:
    """Copy a model with the linear layers of its blocks in 8 bits, a scale a row; inputs as they come.

    torch's dynamic quantisation, which runs on the CPU in float32. Raises ModelError when it can't be had.
    """
    from torch.ao.quantization import (  # noqa: PLC0415  only to be compared with
        per_channel_dynamic_qconfig,
        quantize_dynamic,
    )

    if model.device.type != "cpu" or model.dtype != torch.float32:
        message = f"8 bits are for float32 on the CPU, and this model is {model.dtype} on {model.device}"
        raise ModelError(message)
    names = {
        f"{place}.{name}": per_channel_dynamic_qconfig
        for place, block in _blocks(model)
        for name, part in block.named_modules()
        if type(part) is nn.Linear
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it will move to another package
        made: PreTrainedModel = quantize_dynamic(copy.deepcopy(model), names)  # type: ignore[no-untyped-call]
    return made


def weight_bytes(model: PreTrainedModel) -> tuple[int, int]:
    """Return the bytes of a model's weights, and without those of its embeddings and its head.

    Shared weights count once; of 8 bits, a row's scale and zero point take 16 bytes.
    """
    stored: dict[int, int] = {}
    for value in model.state_dict().values():
        for part in value if isinstance(value, tuple) else (value,):
            if not isinstance(part, Tensor):  # a number format, or a bias that there isn't
                continue
            scales = 16 * len(part) if part.is_quantized else 0
            stored[part.data_ptr()] = part.numel() * part.element_size() + scales
    whole: Any = model
    tables = (whole.get_input_embeddings(), whole.get_output_embeddings())
    embeddings = {part.weight.data_ptr(): part.weight.nbytes for part in tables if part is not None}
    total = sum(stored.values())
    return total, total - sum(embeddings.values())


def layer_bytes(model: PreTrainedModel) -> int:
    """Return the bytes of the weights that `compress` makes fewer, biases left out."""
    return sum(
        part.weight.nbytes
        for _, block in _blocks(model)
        for part in block.modules()
        if type(part) is nn.Linear
    )
