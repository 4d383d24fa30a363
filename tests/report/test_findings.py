from __future__ import annotations

import math
from dataclasses import replace

import pytest

from trsr.evaluation.statistics import Estimate, PairedTest
from trsr.report.findings import Answer, Finding, Headline, complement, headline, overall, weights_in_words
from trsr.report.results import (
    Agreement,
    FusionWeights,
    Kind,
    MetricTable,
    Provenance,
    Results,
    System,
    SystemRow,
)

MEASURE = "NDCG@10"
SYSTEMS = (
    System("sasrec"),
    System("tfidf"),
    System("recurrent", kind=Kind.LANGUAGE_MODEL),
    System("fused", kind=Kind.FUSED),
)


def paired(first: str, second: str, mean: float, p: float, half: float = 0.01) -> PairedTest:
    return PairedTest(
        first, second, MEASURE, 207, Estimate(mean, mean - half, mean + half), 9, 1, 197, p / 2, p
    )


def made(
    means: dict[str, float],
    p_against_best: dict[str, float] | None = None,
    tests: tuple[PairedTest, ...] = (),
    samplers: tuple[str, ...] = ("uniform",),
    half: float = 0.03,
) -> Results:
    against = p_against_best or {}
    rows = tuple(
        SystemRow(
            name,
            207,
            {
                MEASURE: Estimate(mean, mean - half, mean + half),
                "Recall@3": Estimate(mean, mean - half, mean + half),
            },
            p_against_best={MEASURE: against[name]} if name in against else {},
        )
        for name, mean in means.items()
    )
    return Results(
        "demo",
        MEASURE,
        tuple(system for system in SYSTEMS if system.name in means),
        tuple(MetricTable(sampler, 21, rows, tests) for sampler in samplers),
        Provenance("trsr compare", ""),
        language_model="recurrent" if "recurrent" in means else "",
        baseline="sasrec" if "sasrec" in means else "",
    )


def sentences(result: Headline, question: int) -> str:
    return " ".join(result.questions[question].sentences)


def test_the_best_is_named_when_all_others_can_be_told_from_it() -> None:
    test = paired("sasrec", "recurrent", 0.1, 0.001)
    result = headline(made({"sasrec": 0.6, "recurrent": 0.5}, {"recurrent": 0.001}, (test,)))
    assert result.title == "Best on this data: SASRec"
    assert result.task.startswith("For each of 207 test users, 21 items were put in order")
    assert result.questions[0].answer == Answer.YES
    assert result.questions[0].findings[0].test == test


def test_a_lead_that_may_be_chance_is_not_called_a_win() -> None:
    test = paired("fused", "sasrec", 0.01, 0.4, half=0.03)
    means = {"fused": 0.62, "sasrec": 0.61, "recurrent": 0.5}
    result = headline(made(means, {"sasrec": 0.4, "recurrent": 0.001}, (test,)))
    assert result.title == "Ahead on this data: Fused ranker, but not told apart from SASRec"
    assert result.questions[0].answer == Answer.OPEN
    assert result.questions[0].words == "Fused ranker, but not surely"


def test_when_nothing_can_be_told_apart_nobody_is_named() -> None:
    result = headline(made({"sasrec": 0.61, "recurrent": 0.6}, {"recurrent": 0.7}))
    assert result.title == "No system can be told apart from the others on this data"


def test_two_that_are_equally_good_are_both_named() -> None:
    result = headline(made({"sasrec": 0.6, "recurrent": 0.6, "fused": 0.2}, {"fused": 0.001}))
    assert result.title == "Best on this data: SASRec and LM (recurrent summary)"


def test_the_other_table_names_its_own_leader() -> None:
    results = made({"sasrec": 0.6, "fused": 0.5}, {"fused": 0.001}, samplers=("uniform", "popularity"))
    rows = tuple(
        replace(row, metrics={MEASURE: Estimate(0.9, 0.8, 1.0)}) if row.system == "fused" else row
        for row in results.tables[1].rows
    )
    tables = (results.tables[0], replace(results.tables[1], rows=rows))
    findings = headline(replace(results, tables=tables)).questions[0].findings
    assert [(one.sampler, one.systems[0]) for one in findings] == [
        ("uniform", "sasrec"),
        ("popularity", "fused"),
    ]


@pytest.mark.parametrize(
    ("model", "title", "answer"),
    [
        (0.5, "Best on this data: LM (recurrent summary)", Answer.YES),
        (0.43, "No system can be told apart from the others on this data", Answer.OPEN),
        (0.3, "Best on this data: SASRec", Answer.NO),
    ],
)
def test_without_a_test_only_intervals_that_do_not_overlap_decide(
    model: float, title: str, answer: Answer
) -> None:
    result = headline(made({"sasrec": 0.4, "recurrent": model}))
    assert result.title == title
    assert result.questions[1].answer == answer
    assert result.questions[1].findings[0].test is None


def test_intervals_that_touch_or_could_not_be_computed_decide_nothing() -> None:
    low, high, none = Estimate(0.5, 0.4, 0.6), Estimate(0.7, 0.6, 0.8), Estimate(*[math.nan] * 3)
    for values in ((low, high), (high, low), (none, low), (low, none)):
        assert Finding("uniform", MEASURE, ("a", "b"), values).answer == Answer.OPEN


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
    found = paired("recurrent", "sasrec", mean, p)
    question = headline(made({"sasrec": 0.5, "recurrent": 0.5 + mean}, tests=(found,))).questions[1]
    assert (question.answer, question.words) == (answer, words)


def test_without_a_chosen_baseline_all_of_them_have_to_be_beaten() -> None:
    means = {"sasrec": 0.6, "tfidf": 0.2, "recurrent": 0.5}
    question = headline(replace(made(means), baseline="")).questions[1]
    assert question.answer == Answer.NO
    assert len(question.findings) == 2


def test_how_the_model_stands_to_every_baseline_is_said() -> None:
    result = headline(made({"sasrec": 0.6, "tfidf": 0.2, "recurrent": 0.5, "fused": 0.59}))
    assert (
        "LM (recurrent summary) beside all baselines, uniform negatives: clearly above TF-IDF similarity; "
        "clearly below SASRec." in sentences(result, 1)
    )
    assert "clearly above TF-IDF similarity; not told apart from SASRec." in sentences(result, 2)


def test_all_measures_are_counted_so_that_the_primary_one_is_no_lucky_pick() -> None:
    results = made({"sasrec": 0.4, "recurrent": 0.6})
    rows = tuple(
        replace(row, metrics=row.metrics | {"AUC": Estimate(0.5, 0.4, 0.6)}) for row in results.tables[0].rows
    )
    result = headline(replace(results, tables=(replace(results.tables[0], rows=rows),)))
    assert "Over all 3 measures" in sentences(result, 1)
    assert "above every baseline in 2, below at least one in 0, open in 1" in sentences(result, 1)


def test_the_share_that_needs_no_explanation_stands_beside_blind_chance() -> None:
    result = headline(made({"sasrec": 0.1, "recurrent": 0.52}, half=0.1))
    assert (
        "LM (recurrent summary) put the hidden one among its first 3 for 52% of test users (95% interval 42% "
        "to 62%); blind chance would for 14%." in sentences(result, 1)
    )


def test_kinds_of_negatives_that_disagree_are_told_apart() -> None:
    results = made({"sasrec": 0.6, "recurrent": 0.5}, samplers=("uniform", "popularity"))
    tables = (
        replace(results.tables[0], tests=(paired("recurrent", "sasrec", -0.1, 0.001),)),
        replace(results.tables[1], tests=(paired("recurrent", "sasrec", 0.1, 0.001),)),
    )
    question = headline(replace(results, tables=tables)).questions[1]
    assert question.words == (
        "No, it is worse with uniform negatives; Yes with popularity-proportional negatives"
    )
    assert len(question.findings) == 2


@pytest.mark.parametrize(
    ("against_baseline", "against_model", "answer"),
    [(0.1, 0.1, Answer.YES), (-0.1, 0.1, Answer.NO), (0.005, 0.1, Answer.OPEN), (0.1, -0.1, Answer.NO)],
)
def test_joining_helps_only_when_it_beats_both(
    against_baseline: float, against_model: float, answer: Answer
) -> None:
    tests = (
        paired("fused", "sasrec", against_baseline, 0.001),
        paired("recurrent", "fused", -against_model, 0.001),
    )
    question = headline(made({"sasrec": 0.5, "recurrent": 0.5, "fused": 0.6}, tests=tests)).questions[2]
    assert question.answer == answer
    assert [one.systems for one in question.findings] == [("fused", "sasrec"), ("fused", "recurrent")]


def test_answers_are_joined_no_first() -> None:
    assert overall([Answer.YES, Answer.NO, Answer.OPEN]) == Answer.NO
    assert overall([Answer.YES, Answer.OPEN]) == Answer.OPEN
    assert overall([Answer.YES, Answer.YES]) == Answer.YES


def test_what_is_absent_is_said() -> None:
    result = headline(made({"sasrec": 0.5, "fused": 0.6}))
    assert result.questions[1].words == "No language model was measured"
    alone = headline(made({"recurrent": 0.5}))
    assert alone.title == "Only LM (recurrent summary) was measured: there is nothing to compare it with"
    assert [question.words for question in alone.questions] == [
        "No baseline was measured",
        "No fused ranker was measured",
    ]
    assert headline(made({})).title == "Nothing has been measured yet"
    assert headline(made({"sasrec": math.nan})).title == "Nothing has been measured yet"


def test_results_without_test_users_say_so() -> None:
    results = made({"sasrec": 0.5, "recurrent": 0.6})
    result = headline(replace(results, tables=(replace(results.tables[0], split="valid"),)))
    assert "207 validation users" in result.task
    assert "No test users were measured" in result.task


def test_a_fused_ranker_is_not_called_a_complement() -> None:
    results = made({"tfidf": 0.5, "sasrec": 0.5, "fused": 0.5})
    shared = ((0.4, 0.1, 0.4), (0.1, 0.5, 0.5), (0.4, 0.5, 0.9))
    sentence = complement(results, Agreement("uniform", 3, 10, ("tfidf", "sasrec", "fused"), shared))
    assert "are TF-IDF similarity and SASRec" in sentence
    assert "for 80% of users, the better of them alone for 50%" in sentence
    assert "nothing to share" in complement(results, Agreement("uniform", 3, 10, ("tfidf",), ((0.4,),)))


def test_weights_of_zero_and_none_at_all_can_be_told() -> None:
    results = made({"tfidf": 0.5})
    assert weights_in_words(results, FusionWeights("fused", {"tfidf": 0.0})) == [
        "Hardly a say: TF-IDF similarity."
    ]
    assert weights_in_words(results, FusionWeights("fused", {})) == []
    cold = weights_in_words(results, FusionWeights("fused", {"tfidf, cold item": -1.0}))
    assert cold == ["Against a candidate: TF-IDF similarity, in addition for items that training never saw."]
