"""Answers by a Hugging Face causal language model in this process."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, TopPLogitsWarper

from trsr.config.ranking import HuggingFaceModel
from trsr.config.summary import LocalWriter, Sampling
from trsr.errors import ModelError, WriterError
from trsr.hf.loading import (
    choose_device,
    embedding_rows,
    explain,
    load_language_model,
    model_identity,
    number_format,
    positions,
)
from trsr.llm.chat import ChatEncoder
from trsr.llm.generator import Chat, Completion
from trsr.llm.slots import Draw, SlotEngine, fit_slots

_LOG: Final = logging.getLogger(__name__)


class LocalGenerator:
    """Generates with a transformers model, many prompts at a time.

    Models that it fits are decoded in slots (`SlotEngine`): what prompts begin with alike is computed once,
    and an answer that ends makes room for the next prompt. The others run through transformers' own
    ``generate``, in padded batches of prompts of like length.

    An answer depends on its own prompt and the sampling alone: greedy at temperature 0, else with a random
    stream of its own (`SeededDraw`). What is left is rounding: padding and batch mates change the last bits
    of the logits, which can turn a near-tie, in bfloat16 more often than in float32.

    `identity` is the hub id and commit, or folder name and a hash of what is in it; and the number format,
    which changes answers too. `why_padded` says why the model is not decoded in slots; empty when it is.
    Raises ModelError when the model can't be loaded.
    """

    def __init__(self, config: LocalWriter) -> None:
        self._config = config
        _check_device(config.device)
        settings = HuggingFaceModel(
            kind="huggingface", path=config.model, revision=config.revision, dtype=config.dtype
        )
        loaded = load_language_model(settings, config.device, "summary.writer.model")
        self.identity = f"{loaded.identity} {_format_name(loaded.model.dtype)}"
        self._tokenizer: Any = loaded.tokenizer
        self._model: Any = loaded.model
        self._encode = ChatEncoder(self._tokenizer)
        self._stops = _stop_ids(self._model, self._tokenizer)
        # What fills a batch is never looked at, but the model must have a row for it.
        fills = (self._tokenizer.pad_token_id, *sorted(self._stops))
        rows = embedding_rows(self._model)
        self._pad = next((token for token in fills if token is not None and token < rows), 0)
        if not self._stops:
            _LOG.warning(
                "%s names no token that ends an answer (eos_token_id): every answer runs on to "
                "summary.sampling.max_new_tokens and counts as cut",
                self.identity,
            )
        # The folder's own generation settings (penalties, sampling) would go over the run's.
        self._model.generation_config = _settings()
        self.why_padded = fit_slots(self._model)
        if self.why_padded:
            _LOG.warning("%s is decoded in padded batches: %s", self.identity, self.why_padded)
        self._engine: SlotEngine | None = None

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield completions as answers end, longest prompts first.

        Chats appended while the answers are read are answered by the same call, unless the model is decoded
        in padded batches. Raises WriterError before anything is generated, when a prompt and its answer don't
        fit the model's context; also when the device runs out of memory.
        """
        prompts: list[list[int]] = []
        self._encode_new(chats, prompts, sampling)
        answers = (
            self._padded(prompts, sampling) if self.why_padded else self._in_slots(chats, prompts, sampling)
        )
        try:
            for place, row in answers:
                yield place, self._completion(len(prompts[place]), row)
        except torch.cuda.OutOfMemoryError as error:
            message = (
                f"{self.identity}: out of memory with {self._config.batch_size} prompts of up to "
                f"{max(map(len, prompts))} tokens; lower summary.writer.batch_size"
            )
            raise WriterError(message) from error

    def _encode_new(self, chats: Sequence[Chat], prompts: list[list[int]], sampling: Sampling) -> None:
        """Encode what was appended to `chats` since the last time."""
        new = [self._encode(chat) for chat in chats[len(prompts) :]]
        self._check_lengths(new, sampling)
        prompts += new

    def _in_slots(
        self, chats: Sequence[Chat], prompts: list[list[int]], sampling: Sampling
    ) -> Iterator[tuple[int, list[int]]]:
        waiting: list[int] = []
        seen = 0

        def take(count: int) -> list[tuple[int, list[int]]]:
            nonlocal seen
            self._encode_new(chats, prompts, sampling)
            if seen < len(prompts):
                waiting.extend(range(seen, len(prompts)))
                waiting.sort(key=lambda place: len(prompts[place]))
                seen = len(prompts)
            return [
                (place, prompts[place]) for place in (waiting.pop() for _ in range(min(count, len(waiting))))
            ]

        # Taken while it works: answers that are read side by side must not share rows.
        engine, self._engine = self._engine or SlotEngine(self._model, self._config.batch_size), None
        draw = partial(_draw, sampling=sampling) if sampling.temperature > 0 else None
        yield from engine.answer(take, sampling.max_new_tokens, self._stops, draw)
        self._engine = engine

    def _padded(self, prompts: Sequence[list[int]], sampling: Sampling) -> Iterator[tuple[int, list[int]]]:
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]), reverse=True)
        for start in range(0, len(order), self._config.batch_size):
            places = order[start : start + self._config.batch_size]
            yield from zip(places, self._batch([prompts[place] for place in places], sampling), strict=True)

    def _check_lengths(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        context = positions(self._model)
        longest = max(map(len, prompts), default=0)
        if context is not None and longest + sampling.max_new_tokens > context:
            message = (
                f"{self.identity}: prompt of {longest} tokens and answer of up to {sampling.max_new_tokens} "
                f"don't fit the model's context of {context}; lower items.max_tokens, summary.block_size or "
                "summary.sampling.max_new_tokens, or take a model with a longer context"
            )
            raise WriterError(message)

    def _batch(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        width = max(map(len, prompts))
        # Padded on the left, so that every prompt ends where its answer begins.
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        draw = [SeededDraw(prompts, sampling)] if sampling.temperature > 0 else []
        settings = _settings(
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(self._stops) or None,
            pad_token_id=self._pad,
        )
        with torch.inference_mode():
            rows = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList(draw),
            )
        answers: list[list[int]] = rows[:, width:].tolist()
        return answers

    def _completion(self, prompt_tokens: int, row: Sequence[int]) -> Completion:
        end = next((place for place, token in enumerate(row) if token in self._stops), None)
        answer = row if end is None else row[:end]
        return Completion(
            text=str(self._tokenizer.decode(answer, skip_special_tokens=True)).strip(),
            prompt_tokens=prompt_tokens,
            completion_tokens=len(answer),
            finish_reason="length" if end is None else "stop",
        )


def _draw(prompt: Sequence[int], sampling: Sampling) -> Draw:
    """Make the drawing of one prompt's tokens."""
    seeded, no_ids = SeededDraw([prompt], sampling), torch.zeros((1, 0), dtype=torch.long)
    return lambda logits: seeded(no_ids, logits)  # type: ignore[arg-type]


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=choose_device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = f"summary.writer.device: {name!r} can't be used here ({error}); set auto or cpu"
        raise ModelError(message) from error


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Join what the generation settings and the tokenizer call the end; instruct models name several."""
    declared = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = declared if isinstance(declared, list) else [declared]
    return frozenset(int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None)


def identify(config: LocalWriter) -> str:
    """Name the model as `LocalGenerator` does, without loading it.

    Raises ModelError when a hub model's commit can't be found out.
    """
    place = choose_device(config.device)
    name = _format_name(number_format(config.dtype, place))
    try:
        return f"{model_identity(config.model, config.revision)} {name}"
    except (OSError, ValueError, ModelError) as error:
        message = f"summary.writer.model: {config.model!r} can't be found: {explain(config.model, error)}"
        raise ModelError(message) from error


def _format_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _settings(**values: Any) -> GenerationConfig:
    return GenerationConfig(**values)  # type: ignore[no-untyped-call]


class SeededDraw(LogitsProcessor):
    """Turns greedy decoding into sampling with one random stream a prompt.

    Adding Gumbel noise to log-probabilities and taking the largest is a draw from them (the Gumbel-max
    trick), so ``generate`` runs greedily and this processor brings temperature (above 0), nucleus and chance.
    Each prompt's noise is seeded by the seed and the prompt's own ids, without padding, and is made on the
    CPU, the same on every device.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._nucleus = TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None
        self._streams = [
            torch.Generator().manual_seed(_stream_seed(prompt, sampling.seed)) for prompt in prompts
        ]

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores ``(batch, vocabulary)`` whose largest entry of each row is the drawn token."""
        logits = scores.float() / self._temperature
        if self._nucleus is not None:
            logits = self._nucleus(input_ids, logits)
        uniform = torch.stack([torch.rand(logits.shape[1], generator=stream) for stream in self._streams])
        tiny = torch.finfo(uniform.dtype).tiny
        gumbel = -torch.log(-torch.log(uniform.clamp(tiny, 1 - 1e-7)))
        return logits + gumbel.to(logits.device)  # type: ignore[return-value]


def _stream_seed(prompt: Sequence[int], seed: int) -> int:
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
