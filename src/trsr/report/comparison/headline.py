"""What a comparison says, in plain words: who is best, whether the language model wins, what joining adds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from trsr.records import Split
from trsr.report.comparison.board import LEVEL, Board, Line
from trsr.report.comparison.results import (
    ComparisonContent,
    Contrast,
    Kind,
    Roster,
    Table,
    contrast,
    standing,
)
from trsr.report.wording import capitalised, counted, listed, p_value, sampler_name, signed, task

_NAMED = 3


class Answer(StrEnum):
    """What the paired test says of `first` against `second`."""

    YES = "yes"
    NO = "no"
    OPEN = "open"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Question:
    """One question that the comparison was made for; the answer decides its colour."""

    question: str
    answer: Answer
    words: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen: a title, what was ranked, and the questions."""

    title: str
    task: str
    questions: tuple[Question, ...]


def verdict(found: Contrast | None) -> Answer:
    """Read a paired difference: yes or no only when the test and the interval both say so.

    Examples
    --------
    >>> from trsr.evaluation.statistics import Estimate
    >>> verdict(Contrast("a", "b", "AUC", Estimate(0.02, 0.01, 0.03), p=0.001)).value
    'yes'
    >>> verdict(Contrast("a", "b", "AUC", Estimate(0.02, -0.01, 0.05), p=0.3)).value
    'open'
    """
    if found is None:
        return Answer.ABSENT
    if found.p >= LEVEL or found.difference.low <= 0 <= found.difference.high:
        return Answer.OPEN
    return Answer.YES if found.difference.mean > 0 else Answer.NO


def headline(content: ComparisonContent, boards: tuple[Board, ...]) -> Headline:
    """Say what the first table says; every clear statement rests on a paired test.

    There is one board per table of the content, in the same order.
    """
    if not boards or not any(content.measure in line.cells for line in boards[0].lines):
        return Headline("Nothing has been measured yet", "", ())
    table, made = content.tables[0], boards[0]
    roster = Roster(content.systems)
    users = max(row.users for row in table.standings)
    story = task(content.domain, content.items, table.sampler, table.candidates - 1, Split.TEST.value, users)
    questions = (
        _best(content, table, boards, roster),
        _model(content, roster),
        _joined(content, roster),
    )
    return Headline(_title(made, roster), story, tuple(q for q in questions if q is not None))


def _title(made: Board, roster: Roster) -> str:
    ranked = [line for line in made.lines if made.measure in line.cells]
    if len(ranked) == 1:
        return (
            f"Only {roster.inside(ranked[0].system.name)} was measured: there is nothing to compare it with"
        )
    bests = [line for line in ranked if line.cells[made.measure].is_best]
    best, several = capitalised(_listed(bests, roster)), len(bests) > 1
    if not made.is_tested:
        verb = "share" if several else "has"
        return f"{best} {verb} the highest {made.measure}, but no test says how sure that is"
    tied = [line for line in ranked if line.cells[made.measure].is_tied]
    if not tied:
        return f"{best} {'rank' if several else 'ranks'} best on this data"
    if len(tied) + len(bests) == len(ranked):
        return "No system can be told apart from the others on this data"
    verb = "are" if several else "is"
    return f"{best} {verb} ahead on this data, but can’t be told apart from {_listed(tied, roster)}"


def _best(
    content: ComparisonContent, table: Table, boards: tuple[Board, ...], roster: Roster
) -> Question | None:
    made, measure = boards[0], content.measure
    ranked = [line for line in made.lines if measure in line.cells]
    if len(ranked) < 2:
        return None
    first, second = ranked[0].system.name, ranked[1].system.name
    found = contrast(table, first, second, measure)
    sentences = [
        f"With {sampler_name(made.sampler)}: {measure} {_value(ranked[0], measure)}, against "
        f"{_value(ranked[1], measure)} of the next, {roster.inside(second)}{_difference(found)}."
    ]
    for other in boards[1:]:
        top = next((line for line in other.lines if measure in line.cells), None)
        if top is not None:
            leader = "the same system" if top.system.name == first else roster.inside(top.system.name)
            tied = [line for line in other.lines if measure in line.cells and line.cells[measure].is_tied]
            unsure = f", not told apart from {_listed(tied, roster)}" if tied else ""
            sentences.append(
                f"With {sampler_name(other.sampler)}, {leader} leads with {_value(top, measure)}{unsure}."
            )
    is_clear = verdict(found) is Answer.YES and not any(line.cells[measure].is_tied for line in ranked)
    words = roster.label(first) if is_clear else f"{roster.label(first)}, but not surely"
    return Question("Which system is best?", Answer.YES if is_clear else Answer.OPEN, words, tuple(sentences))


def _model(content: ComparisonContent, roster: Roster) -> Question | None:
    question = "Does the language model alone beat the best baseline?"
    model, baseline = content.language_model, content.baseline
    if not model or not baseline:
        missing = "No language model" if not model else "No baseline"
        return Question(question, Answer.ABSENT, f"{missing} in this comparison", ())
    words = {
        Answer.YES: "Yes",
        Answer.NO: "No, it is worse",
        Answer.OPEN: "Can’t be told",
        Answer.ABSENT: "Not tested",
    }
    return _question(content, question, model, [baseline], words, roster)


def _joined(content: ComparisonContent, roster: Roster) -> Question | None:
    fused = next((system.name for system in content.systems if system.kind is Kind.FUSED), "")
    question = "Does joining it with other systems help?"
    if not fused:
        return Question(question, Answer.ABSENT, "No fused ranker in this comparison", ())
    words = {
        Answer.YES: "Yes",
        Answer.NO: "No, it harms",
        Answer.OPEN: "Can’t be told",
        Answer.ABSENT: "Not tested",
    }
    against = [name for name in (content.baseline, content.language_model) if name]
    return _question(content, question, fused, against, words, roster)


def _question(
    content: ComparisonContent,
    question: str,
    first: str,
    others: list[str],
    words: dict[Answer, str],
    roster: Roster,
) -> Question:
    """Answer by table; against several at once it is yes only against all, and no as soon as against one."""
    answers, sentences = {}, []
    for table in content.tables:
        found = [
            (name, contrast(table, first, name, content.measure))
            for name in others
            if _mean(table, name, content) and _mean(table, first, content)
        ]
        if not found:
            continue
        answers[table.sampler] = _overall([verdict(one) for _, one in found])
        parts = [
            f"{_mean(table, name, content)} of {roster.inside(name)}{_difference(one)}" for name, one in found
        ]
        sentences.append(
            f"With {sampler_name(table.sampler)}: {_mean(table, first, content)} against "
            f"{'; against '.join(parts)}."
        )
    told = dict.fromkeys(answers.values())
    if len(told) == 1:
        text = words[next(iter(told))]
    else:
        text = "; ".join(f"{words[answer]} with {sampler_name(name)}" for name, answer in answers.items())
    answer = next(iter(told)) if told else Answer.ABSENT
    return Question(question, answer, text or words[Answer.ABSENT], tuple(sentences))


def _overall(verdicts: list[Answer]) -> Answer:
    for answer in (Answer.NO, Answer.ABSENT, Answer.OPEN):
        if answer in verdicts:
            return answer
    return Answer.YES


def _mean(table: Table, name: str, content: ComparisonContent) -> str:
    row = standing(table, name)
    return f"{row.metrics[content.measure].mean:.3f}" if row and content.measure in row.metrics else ""


def _difference(found: Contrast | None) -> str:
    if found is None:
        return " (no paired test)"
    ends = found.difference
    return (
        f", {signed(ends.mean)} (95% interval {signed(ends.low)} to {signed(ends.high)}, paired p "
        f"{p_value(found.p)})"
    )


def _value(line: Line, measure: str) -> str:
    value = line.cells[measure].value
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def _listed(lines: list[Line], roster: Roster) -> str:
    names = [roster.inside(line.system.name) for line in lines]
    return listed(names) if len(names) <= _NAMED else counted(len(names), "other system")
