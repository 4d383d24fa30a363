"""Answers by a Hugging Face causal language model in this process."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from queue import Empty, PriorityQueue
from typing import Any, Final

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PretrainedConfig,
    TopPLogitsWarper,
)

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
    read_tokenizer,
    weights_of,
)
from trsr.llm.generator import Answering, Chat, ChatEncoder, Completion
from trsr.llm.slots import Draw, SlotEngine, Take, fit_slots

_LOG: Final = logging.getLogger(__name__)


class _Queue:
    """Prompts on their way through a model that works in a thread of its own while there are any."""

    def __init__(self, thread: Executor, work: Callable[[Take], Iterator[tuple[int, list[int]]]]) -> None:
        self._thread = thread
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._waiting: PriorityQueue[tuple[int, int, list[int]]] = PriorityQueue()
        self._answers: dict[int, asyncio.Future[list[int]]] = {}
        self._is_working = self._is_closed = False
        self.longest = 0

    def put(self, prompt: list[int]) -> asyncio.Future[list[int]]:
        """Take a prompt; the result comes when the model has answered it."""
        number = next(self._numbers)
        answer = self._answers[number] = self._loop.create_future()
        self._waiting.put((-len(prompt), number, prompt))
        self.longest = max(self.longest, len(prompt))
        if not self._is_working:
            self._is_working = True
            self._loop.call_soon(self._start)  # whoever asks in the same moment comes along
        return answer

    def close(self) -> None:
        """Let go of all prompts; the model stops after its next answer."""
        self._is_closed = True

    def _start(self) -> None:
        self._loop.run_in_executor(self._thread, self._run).add_done_callback(self._end)

    def _run(self) -> None:
        for number, row in self._work(self._take):
            if self._is_closed:
                return
            self._loop.call_soon_threadsafe(self._give, number, row)

    def _take(self, count: int) -> list[tuple[int, list[int]]]:
        taken: list[tuple[int, list[int]]] = []
        with suppress(Empty):
            while len(taken) < count and not self._is_closed:
                taken.append(self._waiting.get_nowait()[1:])
        return taken

    def _give(self, number: int, row: list[int]) -> None:
        answer = self._answers.pop(number)
        if not answer.done():
            answer.set_result(row)

    def _end(self, run: asyncio.Future[None]) -> None:
        """Begin again for prompts that came too late; tell what went wrong to all who wait."""
        if (error := run.exception()) is not None:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(error)
            self._answers, self._waiting = {}, PriorityQueue()
        self._is_working = not (self._waiting.empty() or self._is_closed)
        if self._is_working:
            self._start()


class LocalGenerator:
    """Generates with a transformers model, many prompts at a time.

    Models that it fits are decoded in slots (`SlotEngine`): what prompts begin with alike is computed once,
    and an answer that ends makes room for the next prompt. The others run through transformers' own
    ``generate``, in padded batches of prompts of like length.

    An answer depends on its own prompt and the sampling alone: greedy at temperature 0, else with a random
    stream of its own (`SeededDraw`). What is left is rounding: padding and batch mates change the last bits
    of the logits, which can turn a near-tie, in bfloat16 more often than in float32.

    A text that is to be gone on with (`Chat.is_continued`) is answered up to the line's end. `style` is how
    prompts are best worded for this model.

    `identity` is the hub id and commit, or folder name and a hash of what is in it; and the number format,
    which changes answers too. `why_padded` says why the model is not decoded in slots; empty when it is.
    Raises ModelError when the model can't be loaded.
    """

    def __init__(self, config: LocalWriter) -> None:
        self._config = config
        _check_device(config.device)
        settings = HuggingFaceModel(
            kind="huggingface",
            path=config.model,
            revision=config.revision,
            dtype=config.dtype,
            quantization=config.quantization,
        )
        loaded = load_language_model(settings, config.device, "summary.writer.model")
        self.identity = f"{loaded.identity} {format_name(loaded.model.dtype)}{_bits(config)}"
        self._tokenizer: Any = loaded.tokenizer
        self._model: Any = loaded.model
        self._encode = ChatEncoder(self._tokenizer)
        self.style = _style(config, self._tokenizer.chat_template, self._model.config)
        self._stops = stop_ids(self._model, self._tokenizer)
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
        self._model.generation_config = generation_settings()
        self.why_padded = fit_slots(self._model)
        if self.why_padded:
            _LOG.warning("%s is decoded in padded batches: %s", self.identity, self.why_padded)
        self._engine: SlotEngine | None = None
        self._turn = threading.Lock()

    @asynccontextmanager
    async def session(self, sampling: Sampling) -> AsyncIterator[Answering]:
        """Open the queue of prompts, from which the model takes the longest first; see `TextGenerator`.

        WriterError is raised for a prompt that doesn't fit the model's context with its answer, and when the
        device runs out of memory.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="trsr-model") as thread:
            chats = _Queue(thread, lambda take: self._rows(take, sampling, self._stops))
            lines = _Queue(thread, lambda take: self._rows(take, sampling, self._stops | self._line_ends))

            @asynccontextmanager
            async def answer(chat: Chat) -> AsyncIterator[Completion]:
                prompt = self._encode(chat)
                self._check_length(len(prompt), sampling)
                queue = lines if chat.is_continued else chats
                try:
                    row = await queue.put(prompt)
                except torch.cuda.OutOfMemoryError as error:
                    message = (
                        f"{self.identity}: out of memory with {self._config.batch_size} prompts of up to "
                        f"{queue.longest} tokens; lower summary.writer.batch_size"
                    )
                    raise WriterError(message) from error
                yield self._completion(len(prompt), row, is_line=chat.is_continued)

            try:
                yield answer
            finally:
                chats.close()
                lines.close()

    @cached_property
    def _line_ends(self) -> frozenset[int]:
        """The tokens with a line break in them, also behind a full stop or the like."""
        rows = min(len(self._tokenizer), embedding_rows(self._model))
        texts = self._tokenizer.batch_decode([[token] for token in range(rows)])
        return frozenset(token for token, text in enumerate(texts) if "\n" in text)

    def _rows(self, take: Take, sampling: Sampling, stops: frozenset[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the answers' tokens until there are no more prompts; sessions side by side take turns."""
        answer = self._padded if self.why_padded else self._in_slots
        with self._turn:
            yield from answer(take, sampling, stops)

    def _in_slots(
        self, take: Take, sampling: Sampling, stops: frozenset[int]
    ) -> Iterator[tuple[int, list[int]]]:
        if self._engine is None:
            self._engine = SlotEngine(self._model, self._config.batch_size)
        is_drawn = sampling.temperature > 0 or sampling.frequency_penalty > 0
        draw = partial(_draw, sampling=sampling) if is_drawn else None
        return self._engine.answer(take, sampling.max_new_tokens, stops, draw)

    def _padded(
        self, take: Take, sampling: Sampling, stops: frozenset[int]
    ) -> Iterator[tuple[int, list[int]]]:
        while prompts := take(self._config.batch_size):
            numbers, rows = zip(*prompts, strict=True)
            yield from zip(numbers, self._batch([list(row) for row in rows], sampling, stops), strict=True)

    def _check_length(self, length: int, sampling: Sampling) -> None:
        context = positions(self._model)
        if context is not None and length + sampling.max_new_tokens > context:
            message = (
                f"{self.identity}: prompt of {length} tokens and answer of up to {sampling.max_new_tokens} "
                f"don't fit the model's context of {context}; lower items.max_tokens, summary.block_size or "
                "summary.sampling.max_new_tokens, or take a model with a longer context"
            )
            raise WriterError(message)

    def _batch(
        self, prompts: Sequence[list[int]], sampling: Sampling, stops: frozenset[int]
    ) -> list[list[int]]:
        width = max(map(len, prompts))
        # Padded on the left, so that every prompt ends where its answer begins.
        ids = torch.tensor([[self._pad] * (width - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        processors: list[LogitsProcessor] = []
        if sampling.frequency_penalty > 0:
            processors.append(FrequencyPenalty(width, sampling.frequency_penalty))
        if sampling.temperature > 0:
            processors.append(SeededDraw(prompts, sampling))
        settings = generation_settings(
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(stops) or None,
            pad_token_id=self._pad,
        )
        with torch.inference_mode():
            rows = self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                generation_config=settings,
                logits_processor=LogitsProcessorList(processors),
            )
        answers: list[list[int]] = rows[:, width:].tolist()
        return answers

    def _completion(self, prompt_tokens: int, row: Sequence[int], *, is_line: bool) -> Completion:
        end = next((place for place, token in enumerate(row) if token in self._stops), None)
        answer = row if end is None else row[:end]
        text = str(self._tokenizer.decode(answer, skip_special_tokens=True))
        if is_line:  # what stands before the break in the last token is the line's
            text, line_end, _ = text.partition("\n")
            end = len(answer) if line_end else end
        return Completion(
            text=text.strip(),
            prompt_tokens=prompt_tokens,
            completion_tokens=len(answer),
            finish_reason="length" if end is None else "stop",
        )


def _draw(prompt: Sequence[int], sampling: Sampling) -> Draw:
    """Make the drawing of one prompt's tokens."""
    seeded = SeededDraw([prompt], sampling) if sampling.temperature > 0 else None
    no_ids: Any = torch.zeros((1, 0), dtype=torch.long)
    written: Counter[int] = Counter()

    def draw(logits: torch.Tensor) -> torch.Tensor:
        if written:
            logits = logits.clone()
            logits[0, [*written]] -= sampling.frequency_penalty * logits.new_tensor([*written.values()])
        scores: torch.Tensor = seeded(no_ids, logits) if seeded else logits  # type: ignore[arg-type]
        if sampling.frequency_penalty > 0:
            written[int(scores.argmax())] += 1  # the largest is the drawn one
        return scores

    return draw


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=choose_device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        message = f"summary.writer.device: {name!r} can't be used here ({error}); set auto or cpu"
        raise ModelError(message) from error


def stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Join what the generation settings and the tokenizer call the end; instruct models name several."""
    declared = model.generation_config.eos_token_id if model.generation_config is not None else None
    listed = declared if isinstance(declared, list) else [declared]
    return frozenset(int(token) for token in [*listed, tokenizer.eos_token_id] if token is not None)


def identify(config: LocalWriter) -> str:
    """Name the model as `LocalGenerator` does, without loading it.

    Raises ModelError when a hub model's commit can't be found out.
    """
    place = choose_device(config.device)
    name = format_name(number_format(config.dtype, place))
    try:
        return f"{model_identity(config.model, config.revision)} {name}{_bits(config)}"
    except (OSError, ValueError, ModelError) as error:
        message = f"summary.writer.model: {config.model!r} can't be found: {explain(config.model, error)}"
        raise ModelError(message) from error


def _bits(config: LocalWriter) -> str:
    return "" if config.quantization == "none" else f" {config.quantization}"


_NARROW: Final = 768
"""Models of fewer dimensions, of some 300M weights at most, loop where they are given instructions."""


def find_style(config: LocalWriter) -> str:
    """Say how prompts are worded for a model, as `LocalGenerator.style` does, without loading it.

    Raises ModelError when its tokenizer or configuration can't be found.
    """
    if config.style != "auto":
        return config.style
    try:
        settings = HuggingFaceModel(kind="huggingface", path=config.model, revision=config.revision)
        path, revision = weights_of(settings)
        shape = AutoConfig.from_pretrained(path, revision=revision)
        return _style(config, read_tokenizer(settings).chat_template, shape)
    except (OSError, ValueError, KeyError, ModelError) as error:
        message = f"summary.writer.model: {config.model!r} can't be found: {explain(config.model, error)}"
        raise ModelError(message) from error


def _style(config: LocalWriter, template: object, shape: PretrainedConfig) -> str:
    if config.style != "auto":
        return config.style
    width = getattr(shape.get_text_config(), "hidden_size", _NARROW)
    return "examples" if not template or width < _NARROW else "chat"


def format_name(dtype: torch.dtype) -> str:
    """Name a number format, as identities do."""
    return str(dtype).removeprefix("torch.")


def generation_settings(**values: Any) -> GenerationConfig:
    """Make settings that hold nothing but what is given."""
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


class FrequencyPenalty(LogitsProcessor):
    """Takes `penalty` off a token's logit for each time that it stands in the answer.

    `width` is the length of the padded prompts, whose tokens cost nothing.
    """

    def __init__(self, width: int, penalty: float) -> None:
        self._width = width
        self._penalty = penalty

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the lowered scores, ``(batch, vocabulary)``."""
        answers = input_ids[:, self._width :]
        times = torch.zeros_like(scores).scatter_add_(
            1, answers, torch.ones_like(answers, dtype=scores.dtype)
        )
        return scores - self._penalty * times  # type: ignore[return-value]


def _stream_seed(prompt: Sequence[int], seed: int) -> int:
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
