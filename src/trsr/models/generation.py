"""What a text generator is, whether it runs in this process or behind a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from trsr.config.summary import Sampling


@dataclass(frozen=True, slots=True)
class Chat:
    """One prompt: an optional system instruction and the user's message."""

    user: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Parameters
    ----------
    text
        The answer, without the prompt and without special tokens; thoughts that the model marks stand in it.
    prompt_tokens, completion_tokens
        As the model's own tokenizer counts them; None when the server doesn't tell.
    finish_reason
        ``stop`` when the model ended by itself, ``length`` when the limit cut it,
        ``content_filter`` when the server kept it back.
    omitted
        Sampling parameters that the server refused, so that its own values hold.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    omitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one chat has no answer, while the others may still have theirs.

    Parameters
    ----------
    reason
        What happened and what to do about it, in one sentence.
    may_be_charged
        Whether the server may ask money for it; whoever pays was told so at each such try.
    """

    reason: str
    may_be_charged: bool = False


class TextGenerator(Protocol):
    """Answers chats; knows its own batching or concurrency."""

    identity: str
    """Model id and revision: with sampling and prompt, the key under which an answer is stored."""

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling
    ) -> Iterator[tuple[int, Completion | Failure]]:
        """Yield ``(place of the chat, its completion)`` as soon as each is there, in any order.

        A chat that can't be answered, while others can, yields its failure.

        Chats that are appended while the answers are read may be answered by the same
        call; those that were not, the caller asks for again.

        Raises
        ------
        WriterError
            When no chat can be answered any more; all that was yielded before stays valid.
        """
        ...
