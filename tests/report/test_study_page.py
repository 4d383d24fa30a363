from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from made_run import results_of

from trsr.evaluation.statistics import Estimate, PairedTest
from trsr.report.page import render
from trsr.report.study import (
    CLAIM,
    ArmFigures,
    Contrast,
    Group,
    StudyContent,
    evidence,
    group_name,
    markdown,
    verdict,
)

PLAN: Mapping[str, Any] = {
    "claim": CLAIM.format(recent=5),
    "measure": "NDCG@10, 20 uniform negatives, test users",
    "contrasts": [["d", "b"], ["d", "f"]],
    "growth": ["d", "b"],
    "test": "paired",
    "level": 0.05,
    "lengths": [20],
    "users": {"test": 200},
    "settings": {"study": {"budget": 256}},
}


def contrast(second: str, mean: float, p: float, growth: float | None = None) -> Contrast:
    ends = Estimate(mean, mean - 0.01, mean + 0.01)
    test = PairedTest("d", second, "NDCG@10", 200, ends, 90, 60, 50, p, p)
    slope = Estimate(growth or 0.0, (growth or 0.0) - 0.01, (growth or 0.0) + 0.01)
    return Contrast("d: own", f"{second}: other", test, (ends, ends), slope, None if growth is None else 0.01)


def arm(name: str, **known: Any) -> ArmFigures:
    value = Estimate(0.5, 0.48, 0.52)
    costs = {"calls": 0.0, "written_tokens": 0.0, "money": 0.0, "writing_ms": 0.0, "failed": 0} | known
    return ArmFigures(
        name, f"{name}: arm", value, (0.49, 0.51), (value, value), 93.0, 400.0, 5.0, 0, 3, 12.5, 60.0, **costs
    )


@pytest.fixture
def stood() -> StudyContent:
    return StudyContent(
        results_of({"b": 0.5, "d": 0.53, "f": 0.49}, name="study"),
        (arm("b"), arm("d", calls=2.5, written_tokens=900.0, money=0.002, writing_ms=150.0), arm("f")),
        (contrast("b", 0.03, 0.001, 0.05), contrast("f", 0.04, 0.002), contrast("a", 0.01, 0.2)),
        (Group("11 to 20 items", 90), Group("21 to 60 items", 110)),
        {"written_at": "2026-01-01T10:00:00+00:00", "hash": "c0ffee", "plan": PLAN},
        "2026-01-01T11:00:00+00:00",
        {"keyphrase": "keyphrase, 6 phrases, decay 0.6"},
        "EUR",
        (("own summary (keyphrase)", Estimate(0.27, 0.25, 0.29)),),
    )


def test_a_claim_stands_when_both_differences_and_the_growth_do(stood: StudyContent) -> None:
    stands, sentence = verdict(stood)
    assert stands
    assert sentence == (
        "The claim stands: with recent items, the own summary is above as many tokens of recent items alone "
        "and above another user’s summary, and its gain over the former grows with the length of the history"
    )
    assert [words for _, words in evidence(stood)] == [
        "d: own − b: other: +0.030 [+0.020, +0.040], p 0.001; better for 90 users, worse for 60.",
        "d: own − f: other: +0.040 [+0.030, +0.050], p 0.002; better for 90 users, worse for 60.",
        "Growth of the first difference: +0.050 [+0.040, +0.060] from the shortest history to the longest, "
        "p 0.010.",
    ]


@pytest.mark.parametrize(
    ("place", "changed", "told"),
    [
        (0, contrast("b", 0.03, 0.06, 0.05), "not told apart from as many tokens"),
        (0, contrast("b", -0.03, 0.001, 0.05), "below as many tokens"),
        (0, contrast("b", 0.03, 0.001, 0.005), "doesn’t clearly grow"),
        (0, contrast("b", 0.03, 0.001, -0.05), "shrinks with the length"),
        (1, contrast("f", 0.001, 0.001), "not told apart from another user’s summary"),
    ],
)
def test_a_claim_falls_with_any_part_of_it(
    stood: StudyContent, place: int, changed: Contrast, told: str
) -> None:
    contrasts = [*stood.contrasts]
    contrasts[place] = changed
    fallen = replace(stood, contrasts=tuple(contrasts))
    stands, sentence = verdict(fallen)
    assert not stands
    assert sentence.startswith("The claim does not stand: ")
    assert told in sentence


def test_the_page_begins_with_it_and_shows_what_was_written_down(stood: StudyContent) -> None:
    page = render(stood)
    assert f"<h1>{verdict(stood)[1]}.</h1>" in page
    assert page.index("c0ffee") > page.index("<h2>Written down before test users were scored</h2>")


def test_where_all_histories_are_of_one_length_no_growth_is_told(stood: StudyContent) -> None:
    flat = replace(stood.contrasts[0], growth=Estimate(*[float("nan")] * 3), growth_p=1.0)
    content = replace(stood, contrasts=(flat, *stood.contrasts[1:]))
    assert not verdict(content)[0]
    assert evidence(content)[2][1].endswith("none can be told, as all histories are of one length.")


def test_what_a_user_took_stands_beside_every_figure_and_what_is_unknown_is_not_0(
    stood: StudyContent,
) -> None:
    unknown = dict.fromkeys(("calls", "written_tokens", "money", "writing_ms"))
    table = markdown(replace(stood, arms=(*stood.arms, arm("d-table", **unknown))))
    rows = {line.split(" |")[0]: line for line in table.splitlines() if ": arm |" in line}
    costs = "| 93 | 5.0 | 400 | 12.5 |"
    assert rows["| b: arm"].endswith(f"{costs} 0 | 0 | 0 | 0 |")
    assert rows["| d: arm"].endswith(f"{costs} 2.5 | 900 | 150.0 | 0.002 EUR |")
    assert rows["| d-table: arm"].endswith(f"{costs} unknown | unknown | unknown | unknown |")
    assert "What writing the texts of a table took is not known." in table
    assert "d: arm (its end of 3 users)" in table


def test_groups_are_named_by_their_lengths() -> None:
    assert group_name(1, 1) == "1 item"
