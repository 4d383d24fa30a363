"""Requests as questions to a language model: one wording for the run, the plan before it and the cache."""

from __future__ import annotations

from typing import Any, Final

from trsr.config.summary import Sampling
from trsr.models.generation import Chat
from trsr.prompts.item_text import item_line
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import Tokens
from trsr.prompts.untrusted import neutralise
from trsr.records import Block
from trsr.summarize.store import Question
from trsr.summarize.writer import Describe, Request, Update

VERBS: Final = ("describe", "update", "combine")
"""The templates of the three verbs."""


class Wording:
    """Words requests as questions.

    Parameters
    ----------
    model
        Identity of the generator that is asked.
    templates
        The words of ``system`` and of the three verbs.
    sampling
        How answers are drawn.
    tokens
        Counts for the items' cap.
    item_tokens
        Cap of an item's line in the prompt.
    """

    def __init__(
        self, model: str, templates: Templates, sampling: Sampling, tokens: Tokens, item_tokens: int
    ) -> None:
        self._model = model
        self._templates = templates
        self._sampling = sampling
        self._tokens = tokens
        self._item_tokens = item_tokens
        self._system = templates.render("system").strip()
        self._versions = {verb: template_versions(templates, verb) for verb in VERBS}

    def question(self, request: Request) -> Question:
        """Render the prompt of one request; summaries in it are neutralised like any text of others."""
        verb, variables = self._variables(request)
        return Question(
            model=self._model,
            sampling=self._sampling,
            chat=Chat(user=self._templates.render(verb, **variables).strip(), system=self._system),
            template=self._versions[verb],
        )

    def _variables(self, request: Request) -> tuple[str, dict[str, Any]]:
        if isinstance(request, Describe):
            return "describe", {"items": self._lines(request.block)}
        if isinstance(request, Update):
            summary = neutralise(request.summary.text)
            return "update", {"summary": summary, "items": self._lines(request.block)}
        return "combine", {"summaries": [neutralise(summary.text) for summary in request.summaries]}

    def _lines(self, block: Block) -> list[str]:
        return [item_line(item, self._tokens, self._item_tokens) for item in block.items]


def template_versions(templates: Templates, verb: str) -> str:
    """Name the versions of all templates that word a verb; part of the key of its answers."""
    return " ".join(f"{name} {templates.version(name)}" for name in ("system", verb))
