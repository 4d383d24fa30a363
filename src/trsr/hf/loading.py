"""A model from a folder or a hub, checked against what it claims to be, and what tells it from others."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from trsr.config.ranking import HuggingFaceModel
from trsr.config.summary import ChatEndpoint
from trsr.errors import ModelError
from trsr.hf.adapters import adapter_settings, load_adapter, merge_adapter
from trsr.hf.compression import factorised
from trsr.hf.gguf_files import is_local, locate
from trsr.hf.tokenization import reachable_ids

if TYPE_CHECKING:
    from peft import PeftModel

_WHOLE_BYTES: Final = 64 << 20
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 64 << 10
_HASH_DIGITS: Final = 16


def folder_identity(folder: Path) -> str:
    """Name a model folder by its last part and a hash of its files, so that it may be moved but not changed.

    Files up to 64 MiB are read whole; of larger ones (weights) the size and 64 chunks spread evenly, which a
    fine-tuning changes, so that naming a model of many gigabytes takes less than a second.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "tiny"
    >>> folder.mkdir()
    >>> _ = (folder / "config.json").write_text("{}")
    >>> folder_identity(folder)
    'tiny@folder-...'
    """
    digest = hashlib.sha256()
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for file in sorted(files):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_BYTES:
                digest.update(stream.read())
                continue
            for sample in range(_SAMPLES):
                stream.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return f"{folder.resolve().name}@folder-{digest.hexdigest()[:_HASH_DIGITS]}"


def served_identity(writer: ChatEndpoint) -> str:
    """Name a model behind a server: its name there, its revision, and what is unlike in how it is asked.

    Settings of the request that change an answer are part of it; the name of the limit changes none. What a
    provider refuses by itself is no part: it refuses it to everyone who asks for that model, so the same
    question is the same request.

    Examples
    --------
    >>> from trsr.config.summary import EndpointWriter, RequestBody
    >>> writer = EndpointWriter(kind="endpoint", base_url="http://localhost/v1", model="qwen")
    >>> served_identity(writer)
    'qwen'
    >>> served_identity(writer.model_copy(update={"revision": "v2", "request": RequestBody(omit=("seed",))}))
    'qwen@v2 {"omit": ["seed"]}'
    """
    request = writer.request.model_dump(mode="json", exclude_defaults=True, exclude={"max_tokens_name"})
    if "omit" in request:
        request["omit"].sort()
    asked = f" {json.dumps(request, sort_keys=True, ensure_ascii=False)}" if request else ""
    return (f"{writer.model}@{writer.revision}" if writer.revision else writer.model) + asked


_FULL: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHOWN_KEYS: Final = 4
_PROBE: Final = ([1, 2, 3, 4], [1, 2, 3, 0])
"""Two prompts that differ in their last token."""
_ROUNDING: Final = {torch.float32: 1e-4}
_COARSE_ROUNDING: Final = 0.02
"""Largest change of earlier logits by a later token that counts as rounding, as a share of their spread."""


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model, in evaluation mode and on its device, with the tokenizer it was trained with.

    Parameters
    ----------
    identity
        Id and revision; two models of one id are told apart by it. A merged adapter is named with its base.
    licence
        What the files say themselves; None when they don't.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str
    licence: str | None = None


def choose_device(device: str = "auto") -> torch.device:
    """Return the device that is named; `auto` is CUDA when there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def number_format(name: str, place: torch.device) -> torch.dtype:
    """Return the number format that is named; `auto` is bfloat16 on a GPU that has it, else float32."""
    auto = torch.bfloat16 if place.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return _FULL.get(name, auto)


def load_language_model(
    settings: HuggingFaceModel, device: str = "auto", setting: str = "model.path"
) -> LanguageModel:
    """Load a model and its tokenizer.

    A LoRA adapter's folder is the model that it makes of its base: the adapter is merged into the base that
    its ``adapter_config.json`` names, whatever else lies in the folder. `device` is `auto`, `cpu`, `cuda`,
    ...; messages name `setting` as what names the model.

    Raises ModelError, with the next step, when either can't be loaded, weights are missing, left over or not
    finite, or the tokenizer has more tokens than the model.
    """
    place = choose_device(device)
    try:
        with without_bars():
            model = _load_whole(settings, place)
            tokenizer = read_tokenizer(settings)
        require_sound(model, tokenizer)
        identity = model_identity(settings.path, settings.revision)
        return LanguageModel(model, tokenizer, identity, locate(settings.path).licence)
    # A broken file raises whatever its reader raises.
    except Exception as error:
        message = f"{setting}: {settings.path!r} can't be loaded: {explain(settings.path, error)}"
        raise ModelError(message) from error


def read_weights(
    path: Path | str, place: torch.device, ranks: Mapping[str, int] | None = None, **options: Any
) -> PreTrainedModel:
    """Load a causal language model of which every weight is in its files, and nothing else is.

    `path` is a folder or a hub id; `ranks` are those of the layers that are factors, as `ranks_of` names
    them; options are those of transformers' ``from_pretrained``. Raises ModelError when weights are missing,
    have another shape or belong to another model, with their names.
    """
    if Path(path).is_dir():
        _require_safetensors(Path(path), "model")
    shown = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its table of keys is told below
    try:
        # Other shapes are let through here to be told with all the rest.
        kind: Any = factorised(AutoConfig.from_pretrained(path), ranks) if ranks else AutoModelForCausalLM
        loaded: Any = kind.from_pretrained(
            path, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    finally:
        logging.set_verbosity(shown)
    model, keys = loaded
    shapes = [f"{name} {tuple(got)} for {tuple(own)}" for name, got, own in keys["mismatched_keys"]]
    told = {"missing": keys["missing_keys"], "of another shape": shapes, "left over": keys["unexpected_keys"]}
    wrong = [f"{label}: {some(names)}" for label, names in told.items() if names]
    if wrong:
        message = (
            f"its weights are not those of {type(model).__name__}, which its config.json names "
            f"({'; '.join(wrong)}). Missing ones would be random: give the folder of a whole causal language "
            "model, and not of an embedding model, a classifier or an interrupted copy; transformers' "
            "save_pretrained writes one"
        )
        raise ModelError(message)
    return model.eval() if is_quantized(model) else place_model(model, place)


def is_quantized(model: nn.Module) -> bool:
    """Say whether a model has weights of 8 or 4 bits, which stay on the device that they were loaded on."""
    return bool(getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False))


def quantized(name: str, place: torch.device, dtype: torch.dtype, *, is_gguf: bool = False) -> dict[str, Any]:
    """Return what transformers' ``from_pretrained`` is told of weights of 8 or 4 bits; nothing of `none`.

    8 bits are LLM.int8 (Dettmers et al., NeurIPS 2022); 4 bits are NF4 with quantised scales, computed in
    `dtype`, as QLoRA has them (the same, 2023). Such weights go to `place` at once and can't be moved.
    `is_gguf`: they come from a GGUF file. Raises ModelError, with the next step, where that can't be had.
    """
    if name == "none":
        return {}
    if is_gguf:
        reason = (
            "the weights of a GGUF file were quantised already, and twice is worse than once: take the "
            "model's folder of safetensors"
        )
    elif place.type != "cuda":
        reason = f"it needs a CUDA device and this is {place.type}: take a machine with a GPU"
    elif importlib.util.find_spec("bitsandbytes") is None:
        reason = "it needs bitsandbytes: pip install 'trsr[quantized]'"
    else:
        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        four = {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype, **nf4}
        told: dict[str, Any] = four if name == "4bit" else {"load_in_8bit": True}
        made = BitsAndBytesConfig(**told)  # type: ignore[no-untyped-call]
        return {"quantization_config": made, "device_map": {"": place}}
    message = f"quantization: {name} can't be had: {reason}, or set quantization: none"
    raise ModelError(message)


def require_sound(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a loaded model is a causal one of finite weights, with a row for every token.

    Raises ModelError when it isn't.
    """
    # A sum of 32 bits is finite exactly when all that is summed is; one pass, no mask.
    weights = [(key, part) for key, part in model.named_parameters() if part.is_floating_point()]
    broken = [
        key
        for key, part in weights
        if part.dtype.itemsize > 1 and not part.sum(dtype=torch.float32).isfinite()
    ]
    if broken:
        message = (
            f"weights are NaN or infinite: {some(broken)}; take a model whose training went well (a lower "
            "learning rate, bfloat16 in place of float16)"
        )
        raise ModelError(message)
    rows, highest = embedding_rows(model), max(reachable_ids(tokenizer))
    if highest >= rows:
        message = (
            f"its tokenizer makes token ids up to {highest} ({highest + 1} tokens), but the model has "
            f"embeddings for {rows} tokens; take the tokenizer that the model was trained with, or enlarge "
            f"the model (resize_token_embeddings({highest + 1})), train the new rows and save both together"
        )
        raise ModelError(message)
    _require_causal(model, rows)


def embedding_rows(model: PreTrainedModel | PeftModel) -> int:
    """Count the tokens that the model can both read and give a logit."""
    parts: Any = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(int(part.weight.shape[0]) for part in parts if part is not None)


def positions(model: PreTrainedModel | PeftModel) -> int | None:
    """Return how many tokens the model is made for; None where nothing limits them.

    What stretches rotary positions counts. A sliding window doesn't limit a prompt.
    """
    config = model.config.get_text_config()
    most = getattr(config, "max_position_embeddings", None)
    rotary = getattr(config, "rope_parameters", None) or {}
    if most is None:
        return None
    # Some models give each kind of layer its own.
    kinds = [kind for kind in (rotary, *rotary.values()) if isinstance(kind, dict)]
    stretched = [
        (kind.get("original_max_position_embeddings") or most) * kind["factor"]
        for kind in kinds
        if kind.get("factor")
    ]
    return int(max(most, *stretched)) if stretched else int(most)


def model_identity(path: str, revision: str | None = None) -> str:
    """Name the weights, without loading them: the same path or hub id twice is not the same model.

    Raises OSError when a hub model's commit can't be found out, ModelError when a GGUF file can't be read or
    a known model isn't here.
    """
    located = locate(path)
    path = located.path
    base = _adapter_base(path, revision)
    if located.identity is not None:
        own = located.identity
    elif Path(path).is_dir():
        own = folder_identity(Path(path))
    else:
        # A branch moves; the commit that it stands at doesn't. It names the folder of what was fetched.
        found = _adapter_file(path, revision) or cached_file(path, "config.json", revision=revision)
        own = f"{path}@{Path(str(found)).parent.name}"
    return own if base is None else f"{own} merged into {model_identity(*base)}"


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar for every file that it reads or writes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def place_model(model: nn.Module, place: torch.device) -> PreTrainedModel:
    """Move a model to its device and set it to evaluation."""
    return cast(PreTrainedModel, model.to(place).eval())


def read_adapter(base: PreTrainedModel, path: Path | str, revision: str | None = None) -> PeftModel:
    """Put an adapter that was saved onto its base, from safetensors alone."""
    if Path(path).is_dir():
        _require_safetensors(Path(path), "adapter_model")
    found = cached_file(str(path), "adapter_model.safetensors", revision=revision)
    return load_adapter(base, Path(str(found)).parent)


def explain(path: str, error: BaseException) -> str:
    """Say why a model can't be loaded, and what to do."""
    if isinstance(error, ModelError):
        return str(error)
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if is_local(path):
        return f"{reason} (the folder must hold config.json, safetensors and tokenizer.json of a causal LM)"
    if "trust_remote_code" in str(error):
        return "it brings its own code, which is not run here; take a model that transformers knows"
    return (
        f"there is no such folder, and as a hub id it can't be fetched: {reason} Check the name, or download "
        "the model where there is a network and give its folder"
    )


def _load_whole(settings: HuggingFaceModel, place: torch.device) -> PreTrainedModel:
    located = locate(settings.path)
    settings = settings.model_copy(update={"path": located.path})
    base = _adapter_base(settings.path, settings.revision)
    dtype = number_format(settings.dtype, place)
    options = quantized(settings.quantization, place, dtype, is_gguf=located.identity is not None)
    if base is None:
        options |= {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
        return read_weights(settings.path, place, dtype=dtype, **options)
    if options:
        message = (
            "an adapter can't be merged into weights of 8 or 4 bits without loss: merge it into its base "
            "first (trsr with quantization: none, or PEFT), or set quantization: none"
        )
        raise ModelError(message)
    below = settings.model_copy(update={"path": base[0], "revision": base[1]})
    try:
        model = _load_whole(below, place)
    except Exception as error:
        message = (
            f"it is an adapter, whose adapter_config.json says base_model_name_or_path {base[0]!r}, and "
            f"that can't be loaded: {explain(base[0], error)}. Write the base's folder or hub id there; "
            "where this folder's own weights hold the adapter already, remove adapter_config.json"
        )
        raise ModelError(message) from error
    return place_model(merge_adapter(read_adapter(model, settings.path, settings.revision)), place)


def weights_of(settings: HuggingFaceModel) -> tuple[str, str | None]:
    """Return path and revision of the model's own weights; of an adapter, those of its base."""
    path, revision = locate(settings.path).path, settings.revision
    while base := _adapter_base(path, revision):
        path, revision = locate(base[0]).path, base[1]
    return path, revision


def read_tokenizer(settings: HuggingFaceModel) -> PreTrainedTokenizerBase:
    """Load the tokenizer beside the weights; that of the base where an adapter has none."""
    path, revision = locate(settings.path).path, settings.revision
    while (base := _adapter_base(path, revision)) and not _has_tokenizer(path, revision):
        path, revision = locate(base[0]).path, base[1]
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        path, revision=revision, trust_remote_code=settings.trust_remote_code
    )
    return tokenizer


def _has_tokenizer(path: str, revision: str | None) -> bool:
    try:
        return cached_file(path, "tokenizer_config.json", revision=revision) is not None
    except OSError:
        return False


def _adapter_file(path: str, revision: str | None) -> str | None:
    found: str | None = find_adapter_config_file(path, revision=revision)
    return found


def _adapter_base(path: str, revision: str | None) -> tuple[str, str | None] | None:
    """Return path and revision of the model that an adapter belongs on; None when `path` is no adapter."""
    found = _adapter_file(path, revision)
    if found is None:
        return None
    folder = Path(found).parent
    config = adapter_settings(folder)
    named = config.base_model_name_or_path
    if not named or Path(named).resolve() == folder.resolve():
        message = (
            f"{found}: base_model_name_or_path must be the folder or hub id of the adapter's base model, "
            f"got {named!r}"
        )
        raise ModelError(message)
    beside = folder / named
    return (str(beside) if beside.exists() and not Path(named).exists() else named), config.revision


def _require_safetensors(folder: Path, stem: str) -> None:
    """Refuse pickles, which run what they hold, and say what is wrong with a file that holds no weights."""
    files = sorted(folder.glob("*.safetensors"))
    pickles = sorted(path.name for end in ("bin", "pt", "pth") for path in folder.glob(f"*.{end}"))
    if not files and pickles:
        message = (
            f"its weights are pickles ({some(pickles)}), which can run code and are not read; load "
            f"them once where you trust them and write {stem}.safetensors by save_pretrained"
        )
        raise ModelError(message)
    for file in files:
        with file.open("rb") as stream:
            start = stream.read(64)
        if start.startswith(b"version https://git-lfs"):
            message = f"{file.name} is only a pointer to the weights; fetch them with `git lfs pull`"
            raise ModelError(message)
        if len(start) <= 8 or 8 + int.from_bytes(start[:8], "little") > file.stat().st_size:
            message = f"{file.name} is empty or cut off ({file.stat().st_size} bytes); copy it again"
            raise ModelError(message)


@torch.inference_mode()
def _require_causal(model: PreTrainedModel | PeftModel, rows: int) -> None:
    """Check that no token changes what was said before it, as in BERT, which loads all the same."""
    if rows <= max(map(max, _PROBE)):
        return
    one, other = (
        model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0].float()
        for ids in _PROBE
    )
    if not one.isfinite().all():
        message = (
            f"it gives logits that are NaN or infinite in {str(model.dtype).removeprefix('torch.')}; set "
            "another dtype, or take another model"
        )
        raise ModelError(message)
    if (one[:-1] - other[:-1]).abs().max() > _ROUNDING.get(model.dtype, _COARSE_ROUNDING) * one.std():
        message = (
            f"{type(model).__name__} with these settings is not causal: a token changes the logits before "
            "it; take a decoder, such as Qwen, Llama or GPT, and not an encoder such as BERT"
        )
        raise ModelError(message)


def some(names: Iterable[str]) -> str:
    """List the first names in order, and count the others."""
    listed = sorted(names)
    more = len(listed) - _SHOWN_KEYS
    return ", ".join(listed[:_SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
