"""The page of the study of summaries: whether the claim stands, and what every arm took a user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trsr.evaluation.statistics import FLIPS, Estimate, PairedTest
from trsr.report import charts
from trsr.report.charts import Point
from trsr.report.findings import Answer
from trsr.report.results import LEVEL, Results
from trsr.report.sections import PICTURES, PROVENANCE, TABLES, USERS, Figure, Section
from trsr.report.words import counted, decimal, listed, p_value, sampler_name, signed

CLAIM: Final = (
    "A summary and {recent} recent items rank better than recent items until the budget is full, and better "
    "than another user’s summary and {recent} recent items; and the gain over the filled budget grows with "
    "the length of the history."
)
TEST: Final = (
    f"paired sign-flip tests over test users, each averaged over training seeds first ({FLIPS:,} patterns); "
    f"growth is the slope of the gain over the users’ ranks by length ({FLIPS:,} permutations); two-sided; "
    "Holm’s method takes the three together"
)


@dataclass(frozen=True, slots=True)
class ArmFigures:
    """One arm: what it reached, and what it took a user. What isn't known is None.

    Parameters
    ----------
    by_group
        The primary measure in each group by length.
    prefix_tokens, read_tokens
        Of a test user's prompt the user's part, and all that the model reads to rank the candidates.
    items
        Recent items shown.
    cut_items, cut_summaries
        Test users some of whose items, or the end of whose summary, had no room in the budget.
    calls, written_tokens, money, writing_ms
        Of the writer: calls, tokens of prompts and answers, their price, wall time.
    failed
        Users without a summary although there is a history.
    """

    name: str
    label: str
    value: Estimate
    by_seed: tuple[float, ...]
    by_group: tuple[Estimate, ...]
    prefix_tokens: float
    read_tokens: float
    items: float
    cut_items: int
    cut_summaries: int
    ranking_ms: float
    training_s: float
    calls: float | None
    written_tokens: float | None
    money: float | None
    writing_ms: float | None
    failed: int


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two arms on the same users; `growth` is the slope over ranks by length, `growth_p` its adjusted p."""

    first: str
    second: str
    test: PairedTest
    by_group: tuple[Estimate, ...]
    growth: Estimate
    growth_p: float | None = None

    @property
    def answer(self) -> Answer:
        """Whether the first is better."""
        return _answer(self.test.difference, self.test.p_holm)

    @property
    def grows(self) -> Answer:
        """Whether the difference grows with length; only asked of the claim."""
        return Answer.ABSENT if self.growth_p is None else _answer(self.growth, self.growth_p)


def _answer(ends: Estimate, p: float) -> Answer:
    if math.isnan(ends.mean) or p >= LEVEL or ends.low <= 0 <= ends.high:
        return Answer.OPEN
    return Answer.YES if ends.mean > 0 else Answer.NO


@dataclass(frozen=True, slots=True)
class Group:
    """Test users with histories of about one length."""

    name: str
    users: int


@dataclass(frozen=True, slots=True)
class StudyContent:
    """Everything that the page of a study shows.

    Parameters
    ----------
    contrasts
        Those of the claim first: against the filled budget, then against another user's summary.
    registered
        What was written down before test users were scored: ``written_at``, ``hash`` and ``plan``.
    scored_at
        When the first cell was scored.
    writers
        Name to what the writer is.
    matching
        What the texts of the prompts are worth without a language model: each with the primary measure by
        TF-IDF between it and the candidates.
    """

    results: Results
    arms: tuple[ArmFigures, ...]
    contrasts: tuple[Contrast, ...]
    groups: tuple[Group, ...]
    registered: Mapping[str, Any]
    scored_at: str
    writers: Mapping[str, str]
    currency: str
    matching: tuple[tuple[str, Estimate], ...] = ()

    @property
    def claim(self) -> tuple[Contrast, Contrast]:
        """The two contrasts of the claim."""
        return self.contrasts[0], self.contrasts[1]


def verdict(content: StudyContent) -> tuple[bool, str]:
    """Say whether the claim stands, and in one sentence why."""
    filled, placebo = content.claim
    stands = filled.answer is placebo.answer is filled.grows is Answer.YES
    above = {Answer.YES: "above", Answer.NO: "below", Answer.OPEN: "not told apart from"}
    grows = {Answer.YES: "grows", Answer.NO: "shrinks", Answer.OPEN: "doesn’t clearly grow"}[filled.grows]
    return stands, (
        f"The claim {'stands' if stands else 'does not stand'}: with recent items, the own summary is "
        f"{above[filled.answer]} as many tokens of recent items alone and {above[placebo.answer]} another "
        f"user’s summary, and its gain over the former {grows} with the length of the history"
    )


def evidence(content: StudyContent) -> list[tuple[Answer, str]]:
    """Give the three parts of the claim with their figures."""
    parts = [
        (
            one.answer,
            f"{one.first} − {one.second}: {_difference(one.test.difference)}, p {p_value(one.test.p_holm)}; "
            f"better for {one.test.wins:,} users, worse for {one.test.losses:,}.",
        )
        for one in content.claim
    ]
    filled = content.claim[0]
    slope = "none can be told, as all histories are of one length."
    if not math.isnan(filled.growth.mean):
        slope = (
            f"{_difference(filled.growth)} from the shortest history to the longest, "
            f"p {p_value(filled.growth_p)}."
        )
    return [*parts, (filled.grows, f"Growth of the first difference: {slope}")]


def _difference(ends: Estimate) -> str:
    return f"{signed(ends.mean)} [{signed(ends.low)}, {signed(ends.high)}]"


_HEADS: Final = (
    "tokens of the user’s part", "items shown", "tokens read", "ranking, ms", "writer’s calls",
    "writer’s tokens", "writing, ms", "money",
)  # fmt: skip


def _costs(content: StudyContent, arm: ArmFigures) -> tuple[str, ...]:
    """Write what an arm took a user."""
    return (
        f"{arm.prefix_tokens:,.0f}",
        f"{arm.items:.1f}",
        f"{arm.read_tokens:,.0f}",
        f"{arm.ranking_ms:,.1f}",
        _known(arm.calls, "{:,.1f}"),
        _known(arm.written_tokens, "{:,.0f}"),
        _known(arm.writing_ms, "{:,.1f}"),
        "0" if arm.money == 0 else _known(arm.money, f"{{:.2g}} {content.currency}"),
    )


def _known(value: float | None, form: str) -> str:
    return "unknown" if value is None else "0" if value == 0 else form.format(value)


def markdown(content: StudyContent) -> str:
    """Write the verdict, every arm with its costs, and every contrast, as Markdown."""
    measure, plan = content.results.measure, content.registered["plan"]
    heads = ["arm", measure, *(f"{group.name} ({group.users:,})" for group in content.groups), *_HEADS]
    rows = [
        [
            arm.label,
            f"{decimal(arm.value.mean)} [{decimal(arm.value.low)}, {decimal(arm.value.high)}]",
            *(decimal(value.mean) for value in arm.by_group),
            *_costs(content, arm),
        ]
        for arm in content.arms
    ]
    tested = [
        [
            f"{one.first} − {one.second}",
            _difference(one.test.difference),
            p_value(one.test.p_holm),
            *(signed(value.mean) for value in one.by_group),
            _difference(one.growth),
            p_value(one.growth_p),
        ]
        for one in content.contrasts
    ]
    groups = [group.name for group in content.groups]
    parts = [
        f"**{verdict(content)[1]}.**",
        "\n".join(f"- {words}" for _, words in evidence(content)),
        _table(heads, rows),
        _table(["contrast", "difference", "p (Holm)", *groups, "growth", "p (Holm)"], tested),
        *notes(content),
        _table(
            ["text alone, by TF-IDF", measure],
            [
                [name, f"{decimal(value.mean)} [{decimal(value.low)}, {decimal(value.high)}]"]
                for name, value in content.matching
            ],
        ),
        f"Written down {content.registered['written_at']}, first scores {content.scored_at}, SHA-256 "
        f"`{content.registered['hash']}`: {plan['claim']}",
    ]
    return "\n\n".join(parts) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def notes(content: StudyContent) -> list[str]:
    """Say what has to be known of the arms: what was cut, and whose summary is missing."""
    cut = [
        f"{arm.label} ({listed([*_cut(arm.cut_items, 'items'), *_cut(arm.cut_summaries, 'its end')])})"
        for arm in content.arms
        if arm.name[0] != "b" and (arm.cut_items or arm.cut_summaries)
    ]
    failed = [f"{arm.label} ({arm.failed:,})" for arm in content.arms if arm.failed]
    found = []
    if cut:
        found.append(f"Without room in the budget: {'; '.join(cut)}.")
    if failed:
        found.append(f"Users whose summary could not be written, and is empty: {'; '.join(failed)}.")
    if any(arm.calls is None for arm in content.arms):
        found.append("What writing the texts of a table took is not known.")
    return found


def _cut(users: int, what: str) -> list[str]:
    return [f"{what} of {counted(users, 'user')}"] if users else []


def group_name(shortest: int, longest: int) -> str:
    """Name a group by the items of its histories.

    Examples
    --------
    >>> group_name(11, 20), group_name(11, 11)
    ('11 to 20 items', '11 items')
    """
    return f"{shortest} to {longest} items" if shortest < longest else counted(longest, "item")


def _result(content: StudyContent) -> dict[str, Any]:
    provenance, table = content.results.provenance, content.results.tables[0]
    task = (
        f"{content.results.measure} of {counted(provenance.users.get('test', 0), 'test user')}, "
        f"{table.candidates} candidates each, {sampler_name(table.sampler)}; "
        f"{counted(len(provenance.seeds), 'training seed')}."
    )
    rows = [(arm, _costs(content, arm)) for arm in content.arms]
    return {
        "headline": verdict(content)[1],
        "task": task,
        "rows": rows,
        "heads": _HEADS,
        "notes": notes(content),
        "claimed": evidence(content),
    }


_SHORT: Final = {"b": "b filled budget", "d": "d own summary", "f": "f another’s"}


def _lengths(content: StudyContent) -> dict[str, Any]:
    """Draw the arms, and the gains of the claim, over the length of the history."""
    groups = [f"{group.name}" for group in content.groups]
    shown = [
        arm
        for arm in content.arms
        if arm.name in {n for c in content.claim for n in (c.test.first, c.test.second)}
    ]
    arms = {
        _SHORT[arm.name[0]]: [Point(g, v) for g, v in zip(groups, arm.by_group, strict=True)] for arm in shown
    }
    gains = {
        f"over {_SHORT[one.test.second[0]]}": [Point(g, v) for g, v in zip(groups, one.by_group, strict=True)]
        for one in content.claim
    }
    measure, caption = content.results.measure, "Dots: means over users; lines: 95% intervals."
    missing = "All histories are of one length."
    return {
        "figures": [
            Figure(
                "The arms of the claim", caption,
                charts.settings("arms-by-length", "history", measure, arms), missing,
            ),
            Figure(
                "What the own summary gains", f"{caption} Above zero the summary is ahead.",
                charts.settings("gains-by-length", "history", f"difference in {measure}", gains), missing,
            ),
        ]
    }  # fmt: skip


def _registered(content: StudyContent) -> dict[str, Any]:
    plan = content.registered["plan"]
    return {
        "facts": {
            "Written down": content.registered["written_at"],
            "First test users scored": content.scored_at,
            "SHA-256 of the plan": content.registered["hash"],
            "Claim": plan["claim"],
            "Primary measure": plan["measure"],
            "Contrasts": "; ".join(" − ".join(pair) for pair in plan["contrasts"]),
            "Growth of": " − ".join(plan["growth"]),
            "Test": plan["test"],
            "Level": str(plan["level"]),
            "Groups by length end at": listed([str(cut) for cut in plan["lengths"]])
            if plan["lengths"]
            else "–",
            "Budget": f"{plan['settings']['study']['budget']} tokens a prompt",
            "Users": ", ".join(f"{count:,} {split}" for split, count in plan["users"].items()),
            **{f"Writer {name}": told for name, told in content.writers.items()},
        }
    }


def _of_results(section: Section) -> Section:
    return Section(
        section.name,
        section.title,
        section.heading,
        section.template,
        lambda content: section.context(content.results),
        lambda content: section is not USERS or content.results.cases is not None,
    )


_TEMPLATE: Final = "study.html.jinja"
STUDY: Final = (
    Section("result", "", "", _TEMPLATE, _result),
    Section("contrasts", "Contrasts", "Arm against arm", _TEMPLATE),
    Section("lengths", "Lengths", "By length of the history", _TEMPLATE, _lengths),
    Section(
        "registered", "Written down", "Written down before test users were scored", _TEMPLATE, _registered
    ),
    _of_results(TABLES),
    _of_results(PICTURES),
    _of_results(USERS),
    _of_results(PROVENANCE),
)
