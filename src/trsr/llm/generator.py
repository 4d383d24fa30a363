"""Chats, their tokens, and what answers them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import jinja2
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trsr.config.summary import Sampling
from trsr.data.images import ItemImage
from trsr.errors import ModelError
from trsr.hf.gguf_files import locate
from trsr.hf.tokenization import PlainEncoder, leading_ids
from trsr.prompts.item_text import ApproximateTokens

# Stand where the messages go while the template is rendered; letters only, so that no template changes them.
_SYSTEM_MARK: Final = "TrsrSystemMessage"
_USER_MARK: Final = "TrsrUserMessage"

_Layout = tuple[tuple[int, ...] | str, ...]


class ChatEncoder:
    """Encodes chats for one model with its fast tokenizer.

    With a chat template: the template is rendered once around two marks and cut at them; its pieces are
    encoded with control tokens, the messages without. Hence no message can end its turn or begin another's. A
    template that has no system role (it refuses or drops the message) gets the system text on top of the
    user's. Without a chat template: both texts as plain text after the tokenizer's beginning-of-sequence
    token, and so is a text that is to be gone on with. Templates that can think aloud are told not to.

    Raises ModelError when the tokenizer is not a fast one, or its chat template does not show the user's
    message exactly once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._plain = PlainEncoder(tokenizer)
        self._with_system = self._layout(system=True)
        self._without_system = self._layout(system=False)

    def __call__(self, chat: Chat) -> list[int]:
        """Return the prompt's token ids, up to where the model's answer begins."""
        if chat.is_continued:
            return [*leading_ids(self._tokenizer), *self._plain([chat.user])[0]]
        layout = self._with_system if chat.system else self._without_system
        texts = {_SYSTEM_MARK: chat.system.strip(), _USER_MARK: chat.user.strip()}
        if _SYSTEM_MARK not in layout and chat.system:
            texts[_USER_MARK] = f"{chat.system.strip()}\n\n{chat.user.strip()}"
        if not self._tokenizer.chat_template:
            texts[_USER_MARK] += "\n"
        ids: list[int] = []
        for piece in layout:
            ids.extend(self._plain([texts[piece]])[0] if isinstance(piece, str) else piece)
        return ids

    def _layout(self, *, system: bool) -> _Layout:
        if not self._tokenizer.chat_template:
            return (leading_ids(self._tokenizer), _USER_MARK)
        rendered = self._render(system=system)
        marks = [mark for mark in (_SYSTEM_MARK, _USER_MARK) if rendered.count(mark) == 1]
        if _USER_MARK not in marks:
            message = (
                f"the chat template of {self._tokenizer.name_or_path!r} shows the user's message "
                f"{rendered.count(_USER_MARK)} times; it must show it once: take an instruction-tuned model"
            )
            raise ModelError(message)
        layout: list[tuple[int, ...] | str] = []
        for mark in sorted(marks, key=rendered.index):
            before, _, rendered = rendered.partition(mark)
            layout += [self._trusted(before), mark]
        return (*layout, self._trusted(rendered))

    def _render(self, *, system: bool) -> str:
        messages = [{"role": "user", "content": _USER_MARK}]
        if system:
            messages.insert(0, {"role": "system", "content": _SYSTEM_MARK})
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            if system:  # many templates raise on a role that their model was not trained with
                return self._render(system=False)
            message = f"the chat template of {self._tokenizer.name_or_path!r} can't be rendered: {error}"
            raise ModelError(message) from error
        return str(rendered)

    def _trusted(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)


_NEEDED: Final = "the folder must hold tokenizer.json, or the id must be one that can be fetched"


class ChatTokens(Protocol):
    """Counts prompts by the tokens of the model that will read them."""

    is_exact: bool
    """Whether it is the model's own tokenizer."""

    def count(self, chat: Chat) -> int:
        """Tokens of the whole prompt."""
        ...


class ApproximateChatTokens:
    """Counts as `ApproximateTokens` does, for a model whose tokenizer isn't at hand.

    Examples
    --------
    >>> ApproximateChatTokens().count(Chat("Cordless drill, 18V", system="Be brief."))
    8
    """

    is_exact = False

    def __init__(self) -> None:
        self._tokens = ApproximateTokens()

    def count(self, chat: Chat) -> int:
        """Tokens of both texts; those that a chat template adds are not known."""
        return self._tokens.count(chat.system) + self._tokens.count(chat.user) + chat.image_tokens


class TokenizerChatTokens:
    """Counts with a model's own tokenizer and chat template; loaded at the first count, without the model.

    `path` is a folder, a GGUF file, a known model's name or a hub id.
    """

    is_exact = True

    def __init__(self, path: str, revision: str | None = None) -> None:
        self._path = path
        self._revision = revision

    def count(self, chat: Chat) -> int:
        """Tokens of the prompt as the model gets it, the chat template's own included.

        Raises ModelError when the tokenizer can't be loaded.
        """
        return len(self._encoder(chat))

    @cached_property
    def _encoder(self) -> ChatEncoder:
        try:
            path = locate(self._path).path
            return ChatEncoder(AutoTokenizer.from_pretrained(path, revision=self._revision))
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            message = f"{self._path!r}: its tokenizer can't be loaded: {reason}; {_NEEDED}"
            raise ModelError(message) from error


@dataclass(frozen=True, slots=True)
class Chat:
    """One prompt: an optional system instruction and the user's message, which may show an image.

    Where it `is_continued` it is no message but a text, which the model goes on with up to the line's end.
    """

    user: str
    system: str = ""
    is_continued: bool = False
    image: ItemImage | None = None

    @property
    def written(self) -> str:
        """The user's message as people read it, the image by its hash."""
        return self.user if self.image is None else f"{self.user}\n[{self.image.key}]"

    @property
    def image_tokens(self) -> int:
        """The most tokens that the image may count."""
        return 0 if self.image is None else self.image.tokens


SCORED: Final = "scored"
"""How an answer ends that holds scores: that it has no completion token is a true count."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, without the prompt and without special tokens; thoughts that the model marks stand in it.

    Tokens are as the model's own tokenizer counts them; None when the server doesn't tell. `finish_reason` is
    ``stop`` when the model ended by itself, ``length`` when the limit cut it, ``content_filter`` when the
    server kept it back, `SCORED` where nothing was to be written. `omitted` are sampling parameters that the
    server refused, so that its own values hold.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    omitted: tuple[str, ...] = ()


class Unanswered(Exception):
    """One chat has no answer, while the others may still have theirs.

    Parameters
    ----------
    reason
        What happened and what to do about it, in one sentence.
    may_be_charged
        Whether the server may ask money for it; whoever pays was told so at each such try.
    """

    def __init__(self, reason: str, *, may_be_charged: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_be_charged = may_be_charged


Answering = Callable[[Chat], AbstractAsyncContextManager[Completion]]
"""``async with answer(chat) as completion``: waits for the answer, and ends when it is stored."""


class TextGenerator(Protocol):
    """Answers chats; knows its own batching or concurrency.

    Examples
    --------
    >>> import asyncio
    >>> from contextlib import asynccontextmanager
    >>> class Parrot:
    ...     identity, style = "parrot@1", "chat"
    ...
    ...     @asynccontextmanager
    ...     async def session(self, sampling):
    ...         @asynccontextmanager
    ...         async def answer(chat):
    ...             yield Completion(chat.user, None, None, "stop")
    ...
    ...         yield answer
    >>> async def ask(text):
    ...     async with Parrot().session(Sampling()) as answer, answer(Chat(text)) as completion:
    ...         return completion.text
    >>> asyncio.run(ask("tea"))
    'tea'
    """

    identity: str
    """Model id and revision: with sampling and prompt, the key under which an answer is stored."""
    style: str
    """How prompts are to be worded: by worked `examples`, or else as a chat."""

    def session(self, sampling: Sampling) -> AbstractAsyncContextManager[Answering]:
        """Open what answers any number of chats at once, for the length of a run and inside its loop.

        An answer keeps its place until its block ends: a place is free when the answer is stored, so that a
        kill loses no more answers than there are places. For a chat that can't be answered while others
        can, `Unanswered` is raised. An error that a block raises ends the session as an own one does.

        Raises
        ------
        WriterError
            When no chat can be answered any more; blocks that were under way have ended by then.
        """
        ...
