from __future__ import annotations

from dataclasses import replace

import pytest

from trsr.report.content import ReportContent
from trsr.report.measures import Verdict, boards
from trsr.report.page import Headline, headline


def said(content: ReportContent) -> Headline:
    return headline(content, boards(content.metrics, content.system))


def test_clearly_above_every_baseline(with_recalls) -> None:  # type: ignore[no-untyped-def]
    result = said(with_recalls(own=0.5, random=0.14, tfidf=0.3))
    assert result.verdict == Verdict.ABOVE
    assert result.title == "The language model ranks clearly better than every baseline"
    assert (
        "above every baseline in 9, clearly below at least one in 0, and undecided in 0"
        in result.sentences[2]
    )


def test_overlapping_intervals_are_not_a_win(with_recalls) -> None:  # type: ignore[no-untyped-def]
    result = said(with_recalls(own=0.38, random=0.14, tfidf=0.3))
    assert result.verdict == Verdict.UNCLEAR
    tied, won = result.title.split(", but ")
    assert tied == "The language model can’t be told apart from TF-IDF similarity"
    assert won == "is clearly better than random order"


def test_a_loss_is_called_a_loss(with_recalls) -> None:  # type: ignore[no-untyped-def]
    result = said(with_recalls(own=0.19, random=0.14, popularity=0.2, tfidf=0.45))
    assert result.verdict == Verdict.BELOW
    assert result.title == "The language model ranks clearly worse than TF-IDF similarity"
    assert "in this, TF-IDF similarity, reached 45% (40% to 50%)" in result.sentences[1]


def test_the_numbers_are_those_of_the_metrics(with_recalls) -> None:  # type: ignore[no-untyped-def]
    result = said(with_recalls(own=0.52, random=0.14, half=0.1))
    assert result.measure == "Recall@3"
    assert result.sentences[0] == (
        "TRSR (compact) put the hidden one among its first 3 for 52% of users (95% interval 42% to 62%); "
        "blind chance would for 14%."
    )
    assert [(bar.label, bar.value.mean, bar.is_own) for bar in result.bars] == [
        ("TRSR (compact)", 0.52, True),
        ("Random order", 0.14, False),
    ]


@pytest.mark.parametrize(
    ("domain", "sampler", "expected"),
    [
        ("news", "uniform", "21 articles were put in order: the one that the user read next"),
        ("video", "uniform", "20 others drawn evenly from the catalogue of 800 videos."),
        ("generic", "popularity", "from the catalogue of 800 items in proportion to how popular they are."),
        ("generic", "my-own", "from the catalogue of 800 items by another rule."),
    ],
)
def test_the_task_is_told_in_the_domain_s_words(
    content: ReportContent, domain: str, sampler: str, expected: str
) -> None:
    metrics = {**content.metrics, "sampler": sampler}
    task = said(replace(content, domain=domain, metrics=metrics)).task
    assert task.startswith("For each of 207 test users, ")
    assert expected in task


def test_a_run_without_test_users_says_so(content: ReportContent) -> None:
    systems = {name: {"valid": splits["valid"]} for name, splits in content.metrics["systems"].items()}
    result = said(replace(content, metrics={**content.metrics, "systems": systems}))
    assert "203 validation users" in result.task
    assert result.sentences[-1].startswith("No test users were measured")


def test_without_a_baseline_nothing_is_claimed(with_recalls) -> None:  # type: ignore[no-untyped-def]
    result = said(with_recalls(own=0.9))
    assert result.verdict is None
    assert "without a baseline" in result.title
    assert len(result.sentences) == 1


def test_without_measures_the_page_says_so(content: ReportContent) -> None:
    metrics = {"sampler": "uniform", "negatives": 20, "systems": {content.system: {}}}
    assert said(replace(content, metrics=metrics)).title == "Nothing has been measured yet"


def test_without_recall_the_first_measure_speaks(content: ReportContent) -> None:
    value = {"mean": 0.4, "low": 0.3, "high": 0.5}
    entry = {"test": {"users": 1, "tie_rate": 0.0, "metrics": {"MRR@5": value}}}
    metrics = {"sampler": "uniform", "negatives": 1, "systems": {content.system: entry}}
    result = said(replace(content, metrics=metrics))
    assert result.sentences == ("TRSR (compact) reached 0.400 in MRR@5 (0.300 to 0.500).",)
    assert result.task.startswith("For 1 test user, 2 items were put in order")
    assert "and 1 other drawn" in result.task
