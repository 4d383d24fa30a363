"""Texts to vectors by pretrained models: sentence encoders, and the states of causal language models."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ModelError
from trsr.hf.gguf_files import locate
from trsr.hf.loading import LanguageModel, folder_identity, load_language_model, some, without_bars
from trsr.hf.tokenization import PlainEncoder, leading_ids, token_batches

Pooling = Literal["mean", "last"]
"""What of a text's states is its vector: their mean, or the last one."""

_BATCH_TOKENS: Final = 2048


def encoder_identity(path: str) -> str:
    """Name the weights that `path` stands for: of a folder by what is in it, of a hub id by the id."""
    located = locate(path)
    if located.identity is not None:
        return located.identity
    return folder_identity(Path(located.path)) if Path(located.path).is_dir() else path


def sentence_encoder(path: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Load a sentence-transformers model, by folder, hub id or known name; what it gives embeds texts.

    Vectors are ``(n_texts, width)``, rows of length 1. Raises `ModelError` when sentence-transformers is not
    installed or the model can't be loaded; what it gives, when its numbers are not finite.
    """
    try:
        library = importlib.import_module("sentence_transformers")
    except ImportError as error:
        message = (
            "the encoder `sentence` needs sentence-transformers: pip install 'trsr[embeddings]', or take the "
            "encoder lsa, which needs no model"
        )
        raise ModelError(message) from error
    model = load_sentence_encoder(library.SentenceTransformer, path)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return _finite(np.asarray(vectors, dtype=np.float32), path)

    return encode


def load_sentence_encoder(library: Callable[..., Any], path: str) -> Any:
    """Load a sentence encoder, by folder, hub id or known name, of which every weight is in its files.

    `library` is ``SentenceTransformer``, which tells nobody what its files lack. Raises ModelError when it
    can't be loaded, or weights are missing.
    """
    try:
        folder = locate(path).path
        with without_bars(), torch.random.fork_rng(devices=[]):
            made = []
            for seed in (0, 1):
                torch.manual_seed(seed)
                made.append(library(folder, model_kwargs={"use_safetensors": True}).eval())
    # A broken file raises whatever its reader raises.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        message = (
            f"the encoder `sentence`: {path}: not a sentence-transformers model of safetensors ({reason}); "
            "give its folder or hub id"
        )
        raise ModelError(message) from error
    # What the files lack is drawn anew each time. No sentence encoder reads what BERT's pooler gives.
    one, other = (model.state_dict() for model in made)
    drawn = [name for name in one if not torch.equal(one[name], other[name]) and ".pooler." not in name]
    if drawn:
        message = (
            f"the encoder `sentence`: {path}: weights are missing or NaN: {some(drawn)}; give the folder of "
            "a whole sentence encoder"
        )
        raise ModelError(message)
    return made[0]


def begin_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return what stands before a text that is read by itself; never nothing."""
    return list(leading_ids(tokenizer)) or [tokenizer.eos_token_id or 0]


def lifted_mask(real: Tensor, dtype: torch.dtype) -> Tensor:
    """Make the attention mask by which every token sees all real ones, ``(n, 1, length, length)``.

    `real` says which tokens are no padding, ``(n, length)``. As transformers takes a mask of four dimensions
    as it is, the model's own causal mask is not put on.
    """
    shut = torch.zeros(real.shape, dtype=dtype, device=real.device)
    shut = shut.masked_fill(~real, torch.finfo(dtype).min)
    return shut[:, None, None, :].expand(-1, 1, real.shape[1], -1)


@torch.inference_mode()
def require_lifted(model: PreTrainedModel) -> None:
    """Check that by `lifted_mask` a later token changes the states of earlier ones.

    Raises ModelError where the architecture can't be read so.
    """
    ids = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 0]], device=model.device)
    mask = lifted_mask(torch.ones_like(ids, dtype=torch.bool), model.dtype)
    try:
        states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        sees = not torch.equal(states[0, 0], states[1, 0])
    except (RuntimeError, ValueError, IndexError, TypeError):  # a mask of another form is asked for
        sees = False
    if not sees:
        message = (
            f"the causal mask of {type(model).__name__} can't be lifted: no token sees those after it; leave "
            "the step mntp out ({steps: 0}), or take a model such as Llama, Qwen or Gemma"
        )
        raise ModelError(message)


class StateEncoder:
    """Embeds texts by the last hidden states of a causal language model.

    Parameters
    ----------
    path
        Folder, GGUF file, known name or hub id.
    pooling
        What of the states is the vector.
    max_tokens
        Tokens of a text that are read; the rest is left out and counted in `cut`.
    lifted
        Let every token see later ones, too; only models that were trained so can be read so.
    """

    def __init__(self, path: str, pooling: Pooling, max_tokens: int, *, lifted: bool = False) -> None:
        self._language_model: LanguageModel = load_language_model(
            HuggingFaceModel(kind="huggingface", path=path), setting="encoder: model"
        )
        self._path, self._pooling, self._max_tokens = path, pooling, max_tokens
        self._lifted = lifted
        if lifted:
            require_lifted(self._language_model.model)
        self.cut = 0

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, ``(n_texts, width)``, rows of length 1; an empty text has the state of the start."""
        model, tokenizer = self._language_model.model, self._language_model.tokenizer
        begins = begin_ids(tokenizer)
        whole = PlainEncoder(tokenizer)(texts)
        self.cut += sum(len(ids) > self._max_tokens for ids in whole)
        rows = [begins + ids[: self._max_tokens] for ids in whole]
        made: list[tuple[int, NDArray[np.float32]]] = []
        for batch in token_batches([len(row) for row in rows], _BATCH_TOKENS):
            lengths = torch.tensor([len(rows[place]) for place in batch], device=model.device)
            padded = [rows[place] + [0] * (int(lengths.max()) - len(rows[place])) for place in batch]
            real = torch.arange(int(lengths.max()), device=model.device) < lengths[:, None]
            ids = torch.tensor(padded, device=model.device)
            mask = lifted_mask(real, model.dtype) if self._lifted else real.long()
            states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            pooled = pool(states.last_hidden_state.float(), real, len(begins), self._pooling)
            made += zip(batch, torch.nn.functional.normalize(pooled).cpu().numpy(), strict=True)
        made.sort(key=lambda pair: pair[0])
        return _finite(np.array([vector for _, vector in made], dtype=np.float32), self._path)


def pool(states: Tensor, real: Tensor, begun: int, pooling: Pooling) -> Tensor:
    """Turn states ``(n, length, width)`` into vectors ``(n, width)``.

    `real` says which tokens are no padding, ``(n, length)``; `begun` of them stand before each text.
    """
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), real.sum(dim=1) - 1]
    # The first state is huge and the same for all texts (an attention sink), so that it is left out.
    counted = real & (torch.arange(real.shape[1], device=real.device) >= begun)
    counted[:, begun - 1] |= ~counted.any(dim=1)
    return (states * counted[..., None]).sum(dim=1) / counted.sum(dim=1, keepdim=True)


def _finite(vectors: NDArray[np.float32], path: str) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        message = f"{path}: gives embeddings that are NaN or infinite; take another model"
        raise ModelError(message)
    return vectors
