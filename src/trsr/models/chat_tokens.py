"""How long a prompt is, without the model that will read it."""

from __future__ import annotations

from functools import cached_property
from typing import Final, Protocol

from transformers import AutoTokenizer

from trsr.errors import ModelError
from trsr.models.chat_encoding import ChatEncoder
from trsr.models.generation import Chat
from trsr.prompts.tokens import ApproximateTokens

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
        return self._tokens.count(chat.system) + self._tokens.count(chat.user)


class TokenizerChatTokens:
    """Counts with a model's own tokenizer and chat template; loaded at the first count, without the model.

    Parameters
    ----------
    path
        Folder or hub id of the tokenizer.
    revision
        Hub revision.
    """

    is_exact = True

    def __init__(self, path: str, revision: str | None = None) -> None:
        self._path = path
        self._revision = revision

    def count(self, chat: Chat) -> int:
        """Tokens of the prompt as the model gets it, the chat template's own included.

        Raises
        ------
        ModelError
            When the tokenizer can't be loaded.
        """
        return len(self._encoder(chat))

    @cached_property
    def _encoder(self) -> ChatEncoder:
        try:
            return ChatEncoder(AutoTokenizer.from_pretrained(self._path, revision=self._revision))
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = str(error).splitlines()[0]
            message = f"{self._path!r}: its tokenizer can't be loaded: {reason}; {_NEEDED}"
            raise ModelError(message) from error
