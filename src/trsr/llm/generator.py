"""What a text generator is, in this process or behind a server; and one without a model, for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from trsr.config.summary import Sampling
from trsr.errors import WriterError
from trsr.prompts.item_text import ApproximateTokens


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


class FakeGenerator:
    """Answers by a script, remembers in `chats` what it was asked, and fails when told to.

    Parameters
    ----------
    answer
        Chat to answer text; by default a sentence with the number of the user's
        message's tokens. It should depend on the chat alone, as a greedy model does.
    fail_at
        Number of the call, from 1 over the generator's life, that fails; None never.

    Examples
    --------
    >>> fake = FakeGenerator(answer=lambda chat: chat.user.upper())
    >>> [(place, completion.text) for place, completion in fake.generate([Chat("tea")], Sampling())]
    [(0, 'TEA')]
    >>> fake.chats
    [Chat(user='tea', system='')]
    """

    def __init__(
        self,
        answer: Callable[[Chat], str] | None = None,
        *,
        fail_at: int | None = None,
        identity: str = "fake@1",
    ) -> None:
        self.identity = identity
        self.chats: list[Chat] = []
        self._answer = answer or _count_tokens
        self._fail_at = fail_at
        self._calls = 0

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield one scripted completion a chat, cut at the answer limit, last chat first; `chats` may grow.

        Raises WriterError at the call number `fail_at`.
        """
        tokens = ApproximateTokens()
        for place in _newest_first(chats):
            chat = chats[place]
            self._calls += 1
            if self._calls == self._fail_at:
                message = f"{self.identity}: call {self._calls} was told to fail"
                raise WriterError(message, retryable=True)
            self.chats.append(chat)
            whole = self._answer(chat)
            text = tokens.cut(whole, sampling.max_new_tokens)
            yield (
                place,
                Completion(
                    text=text,
                    prompt_tokens=tokens.count(chat.system) + tokens.count(chat.user),
                    completion_tokens=tokens.count(text),
                    finish_reason="stop" if text == whole.rstrip() else "length",
                ),
            )


def _newest_first(chats: Sequence[Chat]) -> Iterator[int]:
    """Yield the places of all chats there are, the last first, then of those appended in the meantime."""
    done = 0
    while done < len(chats):
        there = len(chats)
        yield from reversed(range(done, there))
        done = there


def _count_tokens(chat: Chat) -> str:
    return f"The message has {ApproximateTokens().count(chat.user)} tokens."
