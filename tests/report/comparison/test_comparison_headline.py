from __future__ import annotations

from dataclasses import replace

import pytest

from trsr.evaluation.statistics import Estimate
from trsr.report.comparison.board import board
from trsr.report.comparison.headline import Answer, Headline, headline, verdict
from trsr.report.comparison.results import (
    ComparisonContent,
    Contrast,
    Kind,
    Provenance,
    Roster,
    Standing,
    System,
    Table,
)

MEASURE = "NDCG@10"
SYSTEMS = (System("sasrec"), System("recurrent", kind=Kind.LANGUAGE_MODEL), System("fused", kind=Kind.FUSED))


def contrast(first: str, second: str, mean: float, p: float, half: float = 0.01) -> Contrast:
    return Contrast(first, second, MEASURE, Estimate(mean, mean - half, mean + half), p)


def content(
    means: dict[str, float],
    p_against_best: dict[str, float] | None = None,
    contrasts: tuple[Contrast, ...] = (),
    samplers: tuple[str, ...] = ("uniform",),
) -> ComparisonContent:
    against = p_against_best or {}
    standings = tuple(
        Standing(
            name,
            207,
            {MEASURE: Estimate(mean, mean - 0.03, mean + 0.03)},
            p_against_best={MEASURE: against[name]} if name in against else {},
        )
        for name, mean in means.items()
    )
    return ComparisonContent(
        "demo",
        MEASURE,
        tuple(system for system in SYSTEMS if system.name in means),
        tuple(Table(sampler, 21, standings, contrasts) for sampler in samplers),
        Provenance("trsr compare", ""),
        language_model="recurrent" if "recurrent" in means else "",
        baseline="sasrec" if "sasrec" in means else "",
    )


def said(made: ComparisonContent) -> Headline:
    roster = Roster(made.systems)
    boards = tuple(board(table.sampler, table.standings, roster, MEASURE) for table in made.tables)
    return headline(made, boards)


def test_the_best_is_named_when_all_others_can_be_told_from_it() -> None:
    made = content(
        {"sasrec": 0.6, "recurrent": 0.5},
        {"recurrent": 0.001},
        (contrast("sasrec", "recurrent", 0.1, 0.001),),
    )
    result = said(made)
    assert result.title == "SASRec ranks best on this data"
    assert result.task.startswith("For each of 207 test users, 21 items were put in order")
    assert result.questions[0].answer == Answer.YES
    assert "+0.100 (95% interval +0.090 to +0.110, paired p = 0.001)" in result.questions[0].sentences[0]


def test_a_lead_that_may_be_chance_is_not_called_a_win() -> None:
    made = content(
        {"fused": 0.62, "sasrec": 0.61, "recurrent": 0.5},
        {"sasrec": 0.4, "recurrent": 0.001},
        (contrast("fused", "sasrec", 0.01, 0.4, half=0.03),),
    )
    result = said(made)
    assert result.title == "The fused ranker is ahead on this data, but can’t be told apart from SASRec"
    assert result.questions[0].answer == Answer.OPEN
    assert result.questions[0].words == "Fused ranker, but not surely"


def test_when_nothing_can_be_told_apart_nobody_is_named() -> None:
    result = said(content({"sasrec": 0.61, "recurrent": 0.6}, {"recurrent": 0.7}))
    assert result.title == "No system can be told apart from the others on this data"


def test_two_that_are_equally_good_are_both_named() -> None:
    made = content({"sasrec": 0.6, "recurrent": 0.6, "fused": 0.2}, {"fused": 0.001})
    assert said(made).title == (
        "SASRec and the language model with recurrent summaries rank best on this data"
    )


def test_the_other_table_names_its_own_leader() -> None:
    made = content({"sasrec": 0.6, "fused": 0.5}, {"fused": 0.001}, samplers=("uniform", "popularity"))
    rows = tuple(replace(row, metrics={MEASURE: Estimate(0.9, 0.8, 1.0)}) if row.system == "fused" else row
                 for row in made.tables[1].standings)  # fmt: skip
    tables = (made.tables[0], replace(made.tables[1], standings=rows))
    sentences = said(replace(made, tables=tables)).questions[0].sentences
    assert sentences[1].startswith(
        "With popularity-proportional negatives, the fused ranker leads with 0.900"
    )


def test_without_a_test_the_title_says_so() -> None:
    result = said(content({"sasrec": 0.61, "recurrent": 0.3}))
    assert result.title == "SASRec has the highest NDCG@10, but no test says how sure that is"
    assert result.questions[0].answer == Answer.OPEN
    assert "(no paired test)" in result.questions[0].sentences[0]


@pytest.mark.parametrize(
    ("mean", "p", "answer", "words"),
    [
        (0.1, 0.001, Answer.YES, "Yes"),
        (-0.1, 0.001, Answer.NO, "No, it is worse"),
        (0.005, 0.3, Answer.OPEN, "Can’t be told"),
        (0.1, 0.3, Answer.OPEN, "Can’t be told"),
        (0.005, 0.01, Answer.OPEN, "Can’t be told"),
    ],
)
def test_the_language_model_against_the_best_baseline(
    mean: float, p: float, answer: Answer, words: str
) -> None:
    found = contrast("recurrent", "sasrec", mean, p)
    question = said(content({"sasrec": 0.5, "recurrent": 0.5 + mean}, contrasts=(found,))).questions[1]
    assert (question.answer, question.words) == (answer, words)


def test_a_pair_is_found_in_either_order() -> None:
    found = contrast("sasrec", "recurrent", 0.1, 0.001)
    question = said(content({"sasrec": 0.6, "recurrent": 0.5}, contrasts=(found,))).questions[1]
    assert question.answer == Answer.NO
    assert "−0.100 (95% interval −0.110 to −0.090" in question.sentences[0]


def test_kinds_of_negatives_that_disagree_are_told_apart() -> None:
    made = content({"sasrec": 0.6, "recurrent": 0.5}, samplers=("uniform", "popularity"))
    tables = (
        replace(made.tables[0], contrasts=(contrast("recurrent", "sasrec", -0.1, 0.001),)),
        replace(made.tables[1], contrasts=(contrast("recurrent", "sasrec", 0.1, 0.001),)),
    )
    question = said(replace(made, tables=tables)).questions[1]
    assert question.words == (
        "No, it is worse with uniform negatives; Yes with popularity-proportional negatives"
    )
    assert len(question.sentences) == 2


@pytest.mark.parametrize(
    ("against_baseline", "against_model", "answer"),
    [(0.1, 0.1, Answer.YES), (-0.1, 0.1, Answer.NO), (0.005, 0.1, Answer.OPEN), (0.1, None, Answer.ABSENT)],
)
def test_joining_helps_only_when_it_beats_both(
    against_baseline: float, against_model: float | None, answer: Answer
) -> None:
    contrasts = [contrast("fused", "sasrec", against_baseline, 0.001)]
    if against_model is not None:
        contrasts.append(contrast("fused", "recurrent", against_model, 0.001))
    made = content({"sasrec": 0.5, "recurrent": 0.5, "fused": 0.6}, contrasts=tuple(contrasts))
    question = said(made).questions[2]
    assert question.answer == answer
    assert "SASRec" in question.sentences[0]
    assert "the language model with recurrent summaries" in question.sentences[0]


def test_what_is_absent_is_said() -> None:
    result = said(content({"sasrec": 0.5, "fused": 0.6}))
    assert result.questions[1].words == "No language model in this comparison"
    assert said(content({"recurrent": 0.5})).questions[-1].words == "No fused ranker in this comparison"
    assert said(content({})).title == "Nothing has been measured yet"


def test_a_missing_pair_is_absent() -> None:
    assert verdict(None) == Answer.ABSENT
