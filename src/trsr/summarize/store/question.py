"""What an answer is stored under: all that decides it."""

from __future__ import annotations

from dataclasses import dataclass

from trsr.artifacts import hash_value
from trsr.config.summary import Sampling
from trsr.models.generation import Chat


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides an answer.

    Parameters
    ----------
    model
        Identity of the generator: id, revision and, of a local model, its number format.
    sampling
        How the answer is drawn.
    chat
        The rendered prompt.
    template
        Names and versions of the templates that worded it.

    Examples
    --------
    >>> question = Question("tiny@1", Sampling(), Chat("Hello"), "describe 1")
    >>> question.key == Question("tiny@1", Sampling(), Chat("Hello"), "describe 1").key
    True
    >>> question.key == Question("tiny@1", Sampling(), Chat("Hello"), "describe 2").key
    False
    >>> question.key == Question("tiny@2", Sampling(), Chat("Hello"), "describe 1").key
    False
    """

    model: str
    sampling: Sampling
    chat: Chat
    template: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of model, sampling, template versions and rendered prompt."""
        sampling = self.sampling.model_dump(mode="json")
        return hash_value([self.model, sampling, self.template, self.chat.system, self.chat.user])
