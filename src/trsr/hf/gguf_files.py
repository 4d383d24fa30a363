"""GGUF files as language models: dequantised once, kept in the cache, named by their own metadata."""

from __future__ import annotations

import io
import json
import shutil
import sys
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from gguf import GGUFReader
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from trsr.errors import ModelError
from trsr.hf.known_models import KNOWN_MODELS, cache_folder, file_sha256, filling, read_card, seal

_LAYOUT: Final = 1
"""Counted up when files are to be dequantised anew."""
_DIGITS: Final = 16
_CONTROL_TOKEN: Final = 3
_WHOLE_FOLDER: Final = "take the model's folder of safetensors in place of the GGUF file"


@dataclass(frozen=True, slots=True)
class Located:
    """Where transformers reads a model.

    Parameters
    ----------
    path
        Folder or hub id.
    identity
        Name and hash of a GGUF file; None where the folder or the hub tells them.
    licence
        What the file's metadata or the list of known models says; None when nobody does.
    """

    path: str
    identity: str | None = None
    licence: str | None = None


def is_local(path: str) -> bool:
    """Say whether a path names files of this machine, or a known model, and no model of a hub."""
    return Path(path).exists() or path in KNOWN_MODELS or path.endswith(".gguf")


def locate(path: str) -> Located:
    """Find a model by what stands in a configuration: a known model's name, a GGUF file, a folder, a hub id.

    A folder goes before a known model of its name. A GGUF file, or a folder that holds nothing but one, is
    dequantised where that wasn't done before. Raises ModelError when a known model was not fetched, or a GGUF
    file can't be read.
    """
    model = None if Path(path).exists() else KNOWN_MODELS.get(path)
    place = Path(path) if model is None else model.require()
    file = _gguf_file(place)
    if file is not None:
        return dequantised(file)
    return Located(path) if model is None else Located(str(place), None, model.licence)


def _gguf_file(place: Path) -> Path | None:
    if place.is_dir() and not (place / "config.json").exists():
        files = sorted(place.glob("*.gguf"))
        if len(files) > 1:
            message = f"{place} holds several GGUF files; name one: {', '.join(file.name for file in files)}"
            raise ModelError(message)
        return files[0] if files else None
    if place.suffix.lower() != ".gguf":
        return None
    if not place.is_file():
        message = f"{place}: there is no such file"
        raise ModelError(message)
    return place


def dequantised(file: Path) -> Located:
    """Return an ordinary folder of a GGUF file's model: safetensors in float32, configuration, tokenizer.

    It lies in the cache under the file's SHA-256, and is made when it isn't there. Raises ModelError when the
    file is damaged, transformers can't read its architecture, or what it reads is not what the file says.
    """
    digest = file_sha256(file)[:_DIGITS]
    target = cache_folder() / "dequantised" / f"{digest}-{_LAYOUT}"
    with filling(target) as place:
        if place is not None:
            _dequantise(file, place)
    card = read_card(target) or {}
    return Located(str(target), f"{card['name']}@gguf-{digest}", card["licence"])


def _dequantise(file: Path, place: Path) -> None:
    reader = _read(file)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    name = str(facts.get("general.name") or file.stem)
    licence = facts.get("general.license") or facts.get("general.license.name")
    _require_readable(file, facts, reader, place)
    print(
        f"{name} ({file.name}, licence {licence or 'not said'}): dequantised once for the cache, "
        f"{_bytes(reader) / 1e6:,.0f} MB; a large vocabulary takes minutes",
        file=sys.stderr,
        flush=True,
    )
    try:
        with redirect_stderr(io.StringIO()):  # transformers draws bars here, whatever it is told
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # A broken file raises whatever its reader raises.
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        message = f"{file}: transformers can't read this GGUF file: {reason}; {_WHOLE_FOLDER}"
        raise ModelError(message) from error
    _require_same_model(file, facts, model)
    _split_as_trained(file, facts, tokenizer)
    _name_special_tokens(facts, tokenizer)
    _require_same_tokens(file, facts, tokenizer)
    _add_turn_end(facts, model)
    # save_pretrained refuses weights that come out of a quantised file, and these no longer are.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    with redirect_stderr(io.StringIO()):
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
    seal(place, name=name, licence=licence, file=file.name, sha256=file_sha256(file))


class _BoundedReader(GGUFReader):
    """Reads no further than the file goes: a count that is damaged would be read for ever."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) != int(count):
            message = f"it ends at byte {len(self.data)}, within its content"
            raise ValueError(message)
        return found


def _read(file: Path) -> GGUFReader:
    with file.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        message = f"{file} is only a pointer to the weights; fetch them with `git lfs pull`"
        raise ModelError(message)
    if not start.startswith(b"GGUF"):
        message = f"{file} is no GGUF file: it begins with {start[:8]!r} and not with b'GGUF'; fetch it again"
        raise ModelError(message)
    try:
        return _BoundedReader(file)
    # A broken file raises whatever its reader raises.
    except Exception as error:
        message = f"{file}: this GGUF file is damaged or cut off ({error}); fetch or copy it again"
        raise ModelError(message) from error


def _bytes(reader: GGUFReader) -> int:
    return 4 * sum(int(tensor.n_elements) for tensor in reader.tensors)


def _require_readable(file: Path, facts: dict[str, Any], reader: GGUFReader, place: Path) -> None:
    """Refuse what is no whole model, or would be read as another one than it is."""
    kind, parts = facts.get("general.type", "model"), facts.get("split.count", 1)
    architecture = facts.get("general.architecture")
    scaling = facts.get(f"{architecture}.rope.scaling.type", "none")
    stretched = scaling != "none" or any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors)
    if kind != "model":
        message = f"{file}: general.type must be 'model', got {kind!r}; name the file of the model itself"
    elif parts > 1:
        message = f"{file} is one of {parts} parts; join them with llama.cpp's gguf-split --merge"
    elif stretched and architecture != "gpt-oss":
        message = (
            f"{file}: its positions are stretched ({scaling if scaling != 'none' else 'rope_freqs.weight'}), "
            f"which transformers doesn't take from a GGUF file, so it would be another model; {_WHOLE_FOLDER}"
        )
    elif (free := shutil.disk_usage(place).free) < _bytes(reader):
        message = (
            f"{file}: dequantised it takes {_bytes(reader) / 1e9:,.1f} GB, and {place.parent} has "
            f"{free / 1e9:,.1f} GB left; free the place, or set TRSR_CACHE to a folder with room"
        )
    else:
        return
    raise ModelError(message)


_SHAPE: Final = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
"""What a file says about its model, and where transformers keeps it."""


def _require_same_model(file: Path, facts: dict[str, Any], model: PreTrainedModel) -> None:
    """Check the file's numbers in the configuration: what transformers doesn't know of, it leaves out."""
    architecture = facts["general.architecture"]
    for key, setting in _SHAPE.items():
        said, got = facts.get(f"{architecture}.{key}"), getattr(model.config, setting, None)
        if isinstance(said, int | float) and got is not None and abs(said - got) > 1e-9 * abs(said):
            message = (
                f"{file}: says {architecture}.{key} {said}, but transformers makes a model with {setting} "
                f"{got} of it; {_WHOLE_FOLDER}"
            )
            raise ModelError(message)


_GPT2_SPLIT: Final = frozenset(
    {"gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "trillion", "granite-docling"}
)
_DIGIT_SPLIT: Final = frozenset(
    {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
)
"""Names in ``tokenizer.ggml.pre`` of ways to split text: GPT-2's, and GPT-2's with every digit alone."""


def _split_as_trained(file: Path, facts: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Split text before its merges the way that the file names.

    Where transformers doesn't know the name, it splits as GPT-2 does, which gives other tokens than those
    that the model was trained with.
    """
    backend: Tokenizer = tokenizer.backend_tokenizer
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    split = json.loads(backend.to_str())["pre_tokenizer"]
    if facts.get("tokenizer.ggml.model") != "gpt2" or split != json.loads(gpt2.__getstate__()):
        return
    name = facts.get("tokenizer.ggml.pre", "gpt-2")
    if name in _DIGIT_SPLIT:
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    elif name not in _GPT2_SPLIT:
        message = (
            f"{file}: its tokenizer splits text by tokenizer.ggml.pre {name!r}, which isn't known here, and "
            f"another way would give other tokens; {_WHOLE_FOLDER}"
        )
        raise ModelError(message)


_SPECIAL: Final = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""Special tokens by their names in transformers and in the file."""


def _name_special_tokens(facts: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Give special tokens the parts that the file names; some versions of transformers guess them."""
    tokens = facts.get("tokenizer.ggml.tokens") or []
    for name, key in _SPECIAL.items():
        said = facts.get(f"tokenizer.ggml.{key}_token_id")
        if said is not None and said < len(tokens) and said != getattr(tokenizer, f"{name}_token_id"):
            setattr(tokenizer, f"{name}_token", tokens[said])


def _require_same_tokens(file: Path, facts: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that tokens have the file's ids, control tokens are special, and the chat template is its own."""
    tokens: list[str] = facts.get("tokenizer.ggml.tokens") or []
    ids = tokenizer.get_vocab()
    # transformers spells some in another way (spaces); their place is free then.
    moved = [token for number, token in enumerate(tokens) if ids.get(token, number) != number]
    kinds = facts.get("tokenizer.ggml.token_type") or []
    control = {token for token, kind in zip(tokens, kinds, strict=False) if kind == _CONTROL_TOKEN}
    special = {str(token) for token in tokenizer.get_added_vocab()}
    wrong = []
    if len(tokenizer) != len(tokens) or moved:
        wrong.append(f"{len(tokenizer):,} tokens for {len(tokens):,}, {len(moved):,} with another id")
    if lost := sorted(control - special):
        wrong.append(f"control tokens that would be text: {', '.join(lost[:4])}")
    for name, key in _SPECIAL.items():
        said, got = facts.get(f"tokenizer.ggml.{key}_token_id"), getattr(tokenizer, f"{name}_token_id")
        if said is not None and said != got:
            wrong.append(f"{name}_token_id {got} for {said}")
    if (facts.get("tokenizer.chat_template") or None) != (tokenizer.chat_template or None):
        wrong.append("another chat template")
    if wrong:
        message = f"{file}: transformers makes another tokenizer of it ({'; '.join(wrong)}); {_WHOLE_FOLDER}"
        raise ModelError(message)


def _add_turn_end(facts: dict[str, Any], model: PreTrainedModel) -> None:
    """Let an answer end where a chat's turn does, too: many models have a token of its own for it."""
    settings: Any = model.generation_config
    turn = facts.get("tokenizer.ggml.eot_token_id")
    if settings is None or turn is None:
        return
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    settings.eos_token_id = sorted({end for end in [*ends, turn] if end is not None})
