"""What results say: findings as data, each with its figures and its test; a template prints them.

Nothing is called a win that may be chance: with a paired test it needs p below `LEVEL` and an interval of
the difference without zero, without one 95% intervals that don't overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trsr.evaluation.statistics import Estimate, PairedTest
from trsr.records import Split
from trsr.report.results import LEVEL, Agreement, FusionWeights, Kind, MetricTable, Results, SystemRow
from trsr.report.words import counted, listed, percent, sampler_name, split_name, task

_NAMED = 3
_SLIGHT = 0.1
"""Below this share of the largest weight an input has hardly a say."""


class Answer(StrEnum):
    """Whether the first of two systems is better than the second."""

    YES = "yes"
    NO = "no"
    OPEN = "open"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Finding:
    """Two systems by one metric on the same users: both figures, and the paired test where one was made."""

    sampler: str
    metric: str
    systems: tuple[str, str]
    values: tuple[Estimate, Estimate]
    test: PairedTest | None = None

    @property
    def answer(self) -> Answer:
        """Whether the first is better.

        Examples
        --------
        >>> low, high = Estimate(0.2, 0.1, 0.3), Estimate(0.5, 0.4, 0.6)
        >>> Finding("uniform", "AUC", ("a", "b"), (high, low)).answer.value
        'yes'
        >>> Finding("uniform", "AUC", ("a", "b"), (high, high)).answer.value
        'open'
        """
        if self.test is None:
            return _by_intervals(*self.values)
        ends = self.test.difference
        if self.test.p_holm >= LEVEL or ends.low <= 0 <= ends.high:
            return Answer.OPEN
        return Answer.YES if ends.mean > 0 else Answer.NO


@dataclass(frozen=True, slots=True)
class Question:
    """One question that results were made for; the answer decides its colour.

    `findings` are what the answer rests on, `sentences` say what else is known.
    """

    question: str
    answer: Answer
    words: str
    findings: tuple[Finding, ...] = ()
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen: a title, what was ranked, and the questions."""

    title: str
    task: str = ""
    questions: tuple[Question, ...] = ()


def headline(results: Results) -> Headline:
    """Say what the first table says."""
    measure = results.measure
    if not results.tables or math.isnan(results.tables[0].best(measure)):
        return Headline("Nothing has been measured yet")
    table = results.tables[0]
    users = max(row.users for row in table.rows)
    story = task(results.domain, results.items, table.sampler, table.candidates - 1, table.split, users)
    if table.split != Split.TEST:
        story += " No test users were measured: these numbers may flatter whatever was tuned on them."
    questions = (_best(results), _model(results), _joined(results))
    return Headline(_title(results), story, tuple(one for one in questions if one is not None))


def find(table: MetricTable, first: str, second: str, metric: str) -> Finding | None:
    """Set two systems side by side; None where one was not measured."""
    rows = table.row(first), table.row(second)
    if rows[0] is None or rows[1] is None or any(math.isnan(row.mean(metric)) for row in rows if row):
        return None
    values = rows[0].metrics[metric], rows[1].metrics[metric]
    return Finding(table.sampler, metric, (first, second), values, table.test(first, second, metric))


def untold(table: MetricTable, metric: str) -> list[SystemRow]:
    """Rows that can't be told from the best: by the test against it, by intervals where there is none."""
    ranked = [row for row in table.ranked(metric) if not math.isnan(row.mean(metric))]
    best, found = ranked[0], []
    for row in ranked:
        p = row.p_against_best.get(metric)
        is_open = _by_intervals(best.metrics[metric], row.metrics[metric]) is Answer.OPEN
        if row.mean(metric) < best.mean(metric) and (is_open if p is None else p >= LEVEL):
            found.append(row)
    return found


def complement(results: Results, agreement: Agreement) -> str:
    """Say which two systems find most together; a fused ranker is left out, as it is a join already."""
    own = {
        place: agreement.shared[place][place]
        for place, name in enumerate(agreement.systems)
        if results.kind(name) is not Kind.FUSED
    }
    pairs = [(own[a] + own[b] - agreement.shared[a][b], -a, -b) for a in own for b in own if a < b]
    if not pairs:
        return "With one system there is nothing to share."
    union, a, b = max(pairs)
    names = listed([results.label(agreement.systems[-place]) for place in (a, b)])
    return (
        f"The two systems that find most together are {names}: one or both have the target among the first "
        f"{agreement.k} for {percent(union)} of users, the better of them alone for "
        f"{percent(max(own[-a], own[-b]))}."
    )


def weights_in_words(results: Results, fusion: FusionWeights) -> list[str]:
    """Say which inputs of the fused ranker decide, which count against a candidate, and which hardly at all.

    Examples
    --------
    >>> from trsr.report.results import Provenance
    >>> results = Results("demo", "AUC", (), (), Provenance("", ""))
    >>> weights = {"tfidf": 0.01, "sasrec": 1.2, "popularity": -0.4}
    >>> print(*weights_in_words(results, FusionWeights("fused", weights, "9 users")))
    Most weight: SASRec (+1.200). Against a candidate: Popularity. Hardly a say: TF-IDF similarity.
    Fitted on: 9 users.
    """
    ordered = sorted(fusion.weights.items(), key=lambda one: (-abs(one[1]), one[0]))
    top = abs(ordered[0][1]) if ordered else 0.0
    heavy = [(name, weight) for name, weight in ordered if top and abs(weight) >= _SLIGHT * top]
    slight = [input_label(results, name) for name, weight in ordered if (name, weight) not in heavy]
    for_it = [f"{input_label(results, name)} ({weight:+.3f})" for name, weight in heavy if weight > 0]
    against = [input_label(results, name) for name, weight in heavy if weight < 0]
    told = {
        "Most weight": ", then ".join(for_it),
        "Against a candidate": listed(against) if against else "",
        "Hardly a say": listed(slight, _NAMED - 1, "other input") if slight else "",
        "Fitted on": fusion.fitted_on,
    }
    return [f"{what}: {words}." for what, words in told.items() if words]


_CONDITIONS = {"cold item": "items that training never saw", "drawn by it": "candidates drawn by popularity"}


def input_label(results: Results, name: str) -> str:
    """Name an input; ``tfidf, cold item`` is what TF-IDF adds where training saw nothing."""
    system, comma, condition = name.partition(", ")
    label = results.label(system)
    return f"{label}, in addition for {_CONDITIONS.get(condition, condition)}" if comma else label


def _title(results: Results) -> str:
    table, measure = results.tables[0], results.measure
    ranked = [row for row in table.ranked(measure) if not math.isnan(row.mean(measure))]
    bests = [row for row in ranked if row.mean(measure) == table.best(measure)]
    tied, best = untold(table, measure), _listed(results, bests)
    if len(ranked) == 1:
        return f"Only {best} was measured: there is nothing to compare it with"
    if not tied:
        return f"Best on this data: {best}"
    if len(tied) + len(bests) == len(ranked):
        return "No system can be told apart from the others on this data"
    return f"Ahead on this data: {best}, but not told apart from {_listed(results, tied)}"


def _best(results: Results) -> Question | None:
    measure, findings, sentences = results.measure, [], []
    for table in results.main_tables:
        ranked = [row.system for row in table.ranked(measure) if not math.isnan(row.mean(measure))]
        found = find(table, ranked[0], ranked[1], measure) if len(ranked) > 1 else None
        if found is None:
            continue
        findings.append(found)
        if tied := untold(table, measure):
            sentences.append(
                f"With {sampler_name(table.sampler)}, not told apart from {results.label(ranked[0])}: "
                f"{_listed(results, tied)}."
            )
    if not findings or findings[0].sampler != results.tables[0].sampler:
        return None
    is_clear = findings[0].answer is Answer.YES and not untold(results.tables[0], measure)
    label = results.label(findings[0].systems[0])
    return Question(
        "Which system is best?",
        Answer.YES if is_clear else Answer.OPEN,
        label if is_clear else f"{label}, but not surely",
        tuple(findings),
        tuple(sentences),
    )


def _model(results: Results) -> Question:
    question = "Does the language model alone beat the best baseline?"
    model, table = results.language_model, results.tables[0]
    baselines = _baselines(results)
    if not model or not baselines:
        missing = "language model" if not model else "baseline"
        return Question(
            question, Answer.ABSENT, f"No {missing} was measured", (), tuple(_reached(results, model))
        )
    sentences = [*_reached(results, model), *_beside(results, model), *_over_all(table, model, baselines)]
    answers = {Answer.YES: "Yes", Answer.NO: "No, it is worse", Answer.OPEN: "Can’t be told"}
    against = [results.baseline] if results.baseline else baselines
    return _question(results, question, model, against, answers, sentences)


def _joined(results: Results) -> Question:
    question = "Does joining it with other systems help?"
    fused = next(iter(results.named(Kind.FUSED)), "")
    if not fused:
        return Question(question, Answer.ABSENT, "No fused ranker was measured")
    answers = {Answer.YES: "Yes", Answer.NO: "No, it harms", Answer.OPEN: "Can’t be told"}
    against = [name for name in (results.baseline, results.language_model) if name]
    return _question(results, question, fused, against, answers, _beside(results, fused))


def _question(
    results: Results,
    question: str,
    first: str,
    others: Sequence[str],
    words: dict[Answer, str],
    sentences: Sequence[str],
) -> Question:
    """Answer by table; against several at once it is yes only against all, and no as soon as against one."""
    words = words | {Answer.ABSENT: "Not measured"}
    findings, answers = [], {}
    for table in results.main_tables:
        pairs = [find(table, first, name, results.measure) for name in others]
        found = [one for one in pairs if one is not None]
        findings += found
        if found:
            answers[table.sampler] = overall([one.answer for one in found])
    told = list(dict.fromkeys(answers.values()))
    text = "; ".join(f"{words[answer]} with {sampler_name(name)}" for name, answer in answers.items())
    if len(told) < 2:
        text = words[told[0] if told else Answer.ABSENT]
    return Question(question, told[0] if told else Answer.ABSENT, text, tuple(findings), tuple(sentences))


def overall(answers: Sequence[Answer]) -> Answer:
    """Join answers: no as soon as one is, yes only when all are."""
    return next((one for one in (Answer.NO, Answer.ABSENT, Answer.OPEN) if one in answers), Answer.YES)


def _reached(results: Results, model: str) -> list[str]:
    """Say for how many users the target came first, in the measure that needs no explanation."""
    table = results.tables[0]
    row = table.row(model)
    recalls = row.recalls if row else {}
    if not recalls:
        return []
    k, value = next(iter(recalls.items()))
    return [
        f"{results.label(model)} put the hidden one among its first {k} for {percent(value.mean)} of "
        f"{split_name(table.split).lower()} (95% interval {percent(value.low)} to {percent(value.high)}); "
        f"blind chance would for {percent(min(1.0, k / table.candidates))}."
    ]


def _beside(results: Results, name: str) -> list[str]:
    """Say how a system stands to every baseline by the primary measure, in the first table."""
    table = results.tables[0]
    groups: dict[Answer, list[str]] = {Answer.YES: [], Answer.NO: [], Answer.OPEN: []}
    for other in _baselines(results):
        found = find(table, name, other, results.measure)
        if found is not None:
            groups[found.answer].append(results.label(other))
    told = {"clearly above": Answer.YES, "clearly below": Answer.NO, "not told apart from": Answer.OPEN}
    parts = [f"{words} {listed(groups[answer])}" for words, answer in told.items() if groups[answer]]
    sampler = sampler_name(table.sampler)
    return [f"{results.label(name)} beside all baselines, {sampler}: {'; '.join(parts)}."] if parts else []


def _over_all(table: MetricTable, model: str, baselines: Sequence[str]) -> list[str]:
    """Count the measures, so that the primary one can't be a lucky pick."""
    own, others = table.row(model), [row for name in baselines if (row := table.row(name))]
    counts = dict.fromkeys(Answer, 0)
    for metric, value in own.metrics.items() if own else ():
        values = [row.metrics[metric] for row in others if metric in row.metrics]
        if values:
            counts[overall([_by_intervals(value, other) for other in values])] += 1
    total = sum(counts.values())
    if not total:
        return []
    return [
        f"Over all {counted(total, 'measure')}, by 95% intervals that don’t overlap: above every baseline in "
        f"{counts[Answer.YES]}, below at least one in {counts[Answer.NO]}, open in {counts[Answer.OPEN]}."
    ]


def _by_intervals(own: Estimate, other: Estimate) -> Answer:
    if own.low > other.high:
        return Answer.YES
    return Answer.NO if own.high < other.low else Answer.OPEN


def _baselines(results: Results) -> list[str]:
    """Baselines that the first table measures."""
    rows = results.tables[0].rows if results.tables else ()
    return [row.system for row in rows if results.kind(row.system) is Kind.BASELINE]


def _listed(results: Results, rows: Sequence[SystemRow]) -> str:
    return listed([results.label(row.system) for row in rows], _NAMED, "other system")
