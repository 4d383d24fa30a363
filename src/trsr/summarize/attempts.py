"""One prompt's way to a summary: the question, its answers, a repaired prompt where one is useless."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Final

from trsr.config.summary import Check, Sampling
from trsr.llm.generator import Chat, Completion
from trsr.prompts.item_text import Tokens, item_line
from trsr.prompts.templates import Templates
from trsr.prompts.untrusted import neutralise
from trsr.records import Block, Usage
from trsr.summarize.checks import Asked, Verdict, judge, to_paragraph
from trsr.summarize.cost import charge
from trsr.summarize.store import Question
from trsr.summarize.writer import Combine, Describe, Request, Update

_WORDS_A_TOKEN = 0.5
"""Asked for where an answer was useless: shorter than what fits, so that the next one ends by itself."""


@dataclass(slots=True)
class Inquiry:
    """A distinct prompt, who asked for it, and what came back so far.

    Attempt 0 is the prompt as it is worded; every later one adds a sentence that says how many answers could
    not be used, and why the last one couldn't. So every attempt is a question of its own in the store, and a
    useless answer is kept, never asked for or paid for again, and never served. A run asks at most two
    attempts: the one after the useless answers it found in the store, and one more where that makes a pair.

    `places` are the requests that wait for it, `users` those whose text the prompt holds, `keys` the
    questions that were answered. `question` is the present attempt, `reserved` what the budget holds for it,
    and `unanswered` says why it got no answer at all. `usage` is that of all attempts so far, of this run and
    of earlier ones.
    """

    first: Question
    asked: Asked
    places: list[int]
    users: set[str]
    question: Question = field(init=False)
    text: str = ""
    verdict: Verdict | None = None
    attempt: int = 0
    usage: Usage = field(default=Usage())
    reserved: Usage = field(default=Usage())
    unanswered: str = ""
    keys: list[str] = field(default_factory=list)
    _last: int | None = None

    def __post_init__(self) -> None:
        self.question = self.first

    @property
    def is_written(self) -> bool:
        """Whether a usable answer is there."""
        return bool(self.text)

    @property
    def is_over(self) -> bool:
        """Whether this run makes no other attempt."""
        no_more = self._last is not None and self.attempt > self._last
        return self.is_written or bool(self.unanswered) or no_more

    def take(
        self, completion: Completion, templates: Templates, checks: Collection[Check], *, paid_now: bool
    ) -> None:
        """Judge the answer to the present attempt; where it is useless, word the next one."""
        self.keys.append(self.question.key)
        if paid_now and self._last is None:
            self._last = self.attempt | 1
        told = charge(completion, otherwise=Usage())
        self.usage += replace(told, calls=int(paid_now), calls_reused=int(not paid_now))
        text = to_paragraph(completion.text)
        self.verdict = judge(text, completion, self.asked, checks)
        if self.verdict is None:
            self.text = text
            return
        self.attempt += 1
        self.question = repair(self.first, templates, self.attempt, self.verdict)

    def failure(self) -> str:
        """Say why there is no summary."""
        if self.unanswered:
            return f"unanswered: {self.unanswered}"
        if self.verdict is None:
            return ""
        hint = f"; {self.verdict.hint}" if self.verdict.hint else ""
        return f"{self.verdict.check}: the answer {self.verdict.fault} ({self.attempt} attempts){hint}"


def repair(first: Question, templates: Templates, attempt: int, verdict: Verdict) -> Question:
    """Word an attempt after the first: the same prompt, and what was wrong with the answer before."""
    words = max(10, round(_WORDS_A_TOKEN * first.sampling.max_new_tokens))
    note = templates.render(
        "repair", attempt=attempt, fault=verdict.fault, remedy=verdict.remedy, words=words
    ).strip()
    return replace(
        first,
        chat=Chat(user=f"{first.chat.user}\n\n{note}", system=first.chat.system),
        template=f"{first.template} repair {templates.version('repair')}",
    )


def what_was_asked(request: Request, question: Question, instruction: str) -> Asked:
    """Gather what the answers to a request are held against; summaries in the prompt may be repeated."""
    shown = question.chat.user
    summaries = request.summaries if isinstance(request, Combine) else ()
    if isinstance(request, Update):
        summaries = (request.summary,)
    for summary in summaries:
        shown = shown.replace(neutralise(summary.text), "")
    return Asked(instruction, shown, question.sampling.max_new_tokens)


VERBS: Final = ("describe", "update", "combine")
"""The templates of the three verbs."""


class Wording:
    """Words requests as questions to `model`, a generator's identity; cuts items' lines at `item_tokens`."""

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
