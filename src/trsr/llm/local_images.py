"""Descriptions of images by a Hugging Face model in this process, one image at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Any, Final

import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessorList,
)

from trsr.config.images import LocalCaptioner
from trsr.config.summary import Sampling
from trsr.errors import DataError, ModelError, WriterError
from trsr.hf.loading import choose_device, explain, model_identity, number_format, without_bars
from trsr.llm.generator import Answering, Chat, Completion, Unanswered
from trsr.llm.local import FrequencyPenalty, SeededDraw, format_name, generation_settings, stop_ids

_SETTING: Final = "images.captioner.model"


class LocalImageGenerator:
    """Answers chats with an image by a model from image and text to text (`AutoModelForImageTextToText`).

    One image at a time, so that no description depends on the images beside it (padding to the largest of a
    batch does). A model whose processor has a chat template is shown the prompt; one without, such as BLIP,
    GIT or a vision encoder with a text decoder, was made to caption and is shown the image alone.

    `identity` is hub id and commit, or the folder's name and a hash of what is in it, and the number format.
    Raises ModelError when the model can't be loaded.
    """

    style = "chat"

    def __init__(self, config: LocalCaptioner) -> None:
        self.identity = identify_captioner(config)
        self._place = choose_device(config.device)
        try:
            with without_bars():
                self._processor = _Processor(config)
                model: Any = AutoModelForImageTextToText.from_pretrained(
                    config.model,
                    revision=config.revision,
                    dtype=number_format(config.dtype, self._place),
                    use_safetensors=True,
                )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            message = f"{_SETTING}: {config.model!r} can't be loaded: {explain(config.model, error)}"
            raise ModelError(message) from error
        self._model = model.to(self._place).eval()
        self._stops = stop_ids(self._model, self._processor.tokenizer)

    @asynccontextmanager
    async def session(self, sampling: Sampling) -> AsyncIterator[Answering]:
        """Open the one thread in which the model works; see `TextGenerator`.

        A chat whose image is gone or has changed is `Unanswered`. WriterError is raised when the device runs
        out of memory.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="trsr-images") as thread:

            @asynccontextmanager
            async def answer(chat: Chat) -> AsyncIterator[Completion]:
                loop = asyncio.get_running_loop()
                try:
                    completion = await loop.run_in_executor(thread, self._answer, chat, sampling)
                except DataError as error:
                    raise Unanswered(str(error)) from error
                except torch.cuda.OutOfMemoryError as error:
                    message = f"{self.identity}: out of memory with one image; lower images.side"
                    raise WriterError(message) from error
                yield completion

            yield answer

    @torch.inference_mode()
    def _answer(self, chat: Chat, sampling: Sampling) -> Completion:
        assert chat.image is not None
        inputs = self._processor(chat)
        floats = {name: value for name, value in inputs.items() if value.is_floating_point()}
        moved = {name: value.to(self._place) for name, value in inputs.items()}
        moved |= {name: value.to(self._place, self._model.dtype) for name, value in floats.items()}
        # What comes back begins with the prompt, or with the token that a decoder starts from.
        read = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
        shown = 1 if self._model.config.is_encoder_decoder else read
        stream = [*sha256(f"{chat.image.key} {chat.system} {chat.user}".encode()).digest()]
        drawn = [SeededDraw([stream], sampling)] if sampling.temperature > 0 else []
        penal = [FrequencyPenalty(shown, sampling.frequency_penalty)] if sampling.frequency_penalty else []
        row = self._model.generate(
            **moved,
            generation_config=self._settings(sampling),
            logits_processor=LogitsProcessorList([*penal, *drawn]),
        )[0, shown:].tolist()
        end = next(
            (place for place, token in enumerate(row) if (place or shown) and token in self._stops), None
        )
        text = str(self._processor.tokenizer.decode(row[:end], skip_special_tokens=True)).strip()
        written = len(row if end is None else row[:end])
        # A model that reads no prompt reads one token a patch, or some such: nobody bills for it.
        finish = "stop" if end is not None or written < sampling.max_new_tokens else "length"
        return Completion(text, max(1, read), written, finish)

    def _settings(self, sampling: Sampling) -> GenerationConfig:
        """Keep the tokens that a model begins and pads with; its own sampling would go over the run's."""
        own = self._model.generation_config
        names = ("bos_token_id", "pad_token_id", "decoder_start_token_id")
        tokens = {name: getattr(own, name, None) for name in names}
        if tokens["pad_token_id"] is None and self._stops:
            tokens["pad_token_id"] = min(self._stops)
        return generation_settings(
            do_sample=False,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(self._stops) or None,
            **tokens,
        )


class _Processor:
    """Makes a model's inputs of a chat: by its own processor, or image processor and tokenizer apart."""

    def __init__(self, config: LocalCaptioner) -> None:
        auto: tuple[Any, Any, Any] = (AutoProcessor, AutoImageProcessor, AutoTokenizer)
        whole, *parts = (
            partial(each.from_pretrained, config.model, revision=config.revision) for each in auto
        )
        opened = whole()
        self._whole: Any = opened if hasattr(opened, "image_processor") else None
        if self._whole is None:
            self._images, self.tokenizer = (part() for part in parts)
        else:
            self._images, self.tokenizer = opened.image_processor, opened.tokenizer
        self._is_told = bool(getattr(self._whole, "chat_template", None))

    def __call__(self, chat: Chat) -> dict[str, torch.Tensor]:
        assert chat.image is not None
        image = chat.image.decode()
        if not self._is_told:
            return {"pixel_values": self._images(images=image, return_tensors="pt")["pixel_values"]}
        text = "\n\n".join(filter(None, (chat.system, chat.user)))
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
        prompt = self._whole.apply_chat_template([message], add_generation_prompt=True)
        made = self._whole(images=[image], text=[prompt], return_tensors="pt")
        return {name: value for name, value in made.items() if isinstance(value, torch.Tensor)}


def identify_captioner(config: LocalCaptioner) -> str:
    """Name the model as `LocalImageGenerator` does, without loading it.

    Raises ModelError when a hub model's commit can't be found out.
    """
    try:
        identity = model_identity(config.model, config.revision)
    except (OSError, ValueError, ModelError) as error:
        message = f"{_SETTING}: {config.model!r} can't be found: {explain(config.model, error)}"
        raise ModelError(message) from error
    return f"{identity} {format_name(number_format(config.dtype, choose_device(config.device)))}"
