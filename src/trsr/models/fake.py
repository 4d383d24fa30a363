"""A generator without a model, for tests of everything that stands on one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trsr.config.summary import Sampling
from trsr.errors import WriterError
from trsr.models.generation import Chat, Completion
from trsr.prompts.tokens import ApproximateTokens


class FakeGenerator:
    """Answers by a script, remembers what it was asked, and fails when told to.

    Parameters
    ----------
    answer
        Chat to answer text; by default a sentence with the number of the user's
        message's tokens. It should depend on the chat alone, as a greedy model does.
    fail_at
        Number of the call, from 1 over the generator's life, that fails; None never.
    identity
        The name under which answers are stored.

    Attributes
    ----------
    chats
        Every chat that was answered, in order.

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

        Raises
        ------
        WriterError
            At the call number `fail_at`.
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
