from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from trsr.report import charts as plots
from trsr.report.content import ReportContent
from trsr.report.measures import boards


def drawings(content: ReportContent) -> dict[str, Callable[[], str | None]]:
    board = boards(content.metrics, content.system)[0]
    log = content.log
    return {
        "intervals": lambda: plots.intervals(board, "Recall"),
        "losses": lambda: plots.losses(log.steps, log.epochs),
        "recall": lambda: plots.recall_by_epoch(log.epochs),
        "pretraining": lambda: plots.pretraining(log.pretraining),
        "p_yes": lambda: plots.p_yes([0.2, 0.8], [0.1, 0.15, 0.4]),
        "ranks": lambda: plots.target_ranks([1.0, 1.5, 7.0], 21),
        "lengths": lambda: plots.history_lengths([10, 11, 11, 25]),
    }


NAMES = ("intervals", "losses", "recall", "pretraining", "p_yes", "ranks", "lengths")


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_wellformed_deterministic_and_takes_its_colours_from_the_page(
    content: ReportContent, name: str
) -> None:
    draw = drawings(content)[name]
    svg = draw()
    assert svg is not None
    assert svg == draw()
    root = ElementTree.fromstring(svg)
    assert root.find("title") is not None
    assert root.find("desc") is not None
    assert root.findall(".//text"), "text stays text"
    assert "var(--own)" in svg
    assert not re.search(r"#0101\d\d|https?:|DejaVu|xmlns|<style", svg)
    assert len(svg) < 60_000
    own_ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(own_ids) == len(set(own_ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= set(own_ids)


def test_colours_are_the_page_s_and_no_others(content: ReportContent) -> None:
    for draw in drawings(content).values():
        svg = draw()
        assert svg is not None
        assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) == set()


def test_the_global_settings_of_matplotlib_stay_as_they_were(content: ReportContent) -> None:
    before = dict(matplotlib.rcParams)
    for draw in drawings(content).values():
        draw()
    assert dict(matplotlib.rcParams) == before


def test_every_system_and_mean_is_named(content: ReportContent) -> None:
    svg = plots.intervals(boards(content.metrics, content.system)[0], "Recall")
    assert svg is not None
    for label in ("TRSR (compact)", "Random order", "Popularity", "TF-IDF similarity"):
        assert svg.count(f">{label}</text>") == 3
    assert "Recall@10 TRSR (compact) 0.590" in svg


def test_a_hostile_system_name_stays_text(content: ReportContent) -> None:
    name = "<script>$x^2$&"
    metrics = {**content.metrics, "systems": {name: content.metrics["systems"][content.system]}}
    svg = plots.intervals(boards(metrics, name)[0], "Recall")
    assert svg is not None
    assert "<script" not in svg
    assert "&lt;script&gt;$x^2$&amp;</text>" in svg
    ElementTree.fromstring(svg)


def test_medians_are_told_to_those_who_cannot_see_them() -> None:
    svg = plots.p_yes([0.2, 0.6, 0.7], [0.1, 0.3])
    assert svg is not None
    assert "Median p(yes): targets 0.600, negatives 0.200." in svg


def test_equal_scores_and_equal_lengths_can_be_drawn() -> None:
    assert plots.p_yes([0.5], [0.5, 0.5]) is not None
    assert plots.p_yes([1.0], [1.0]) is not None
    assert plots.history_lengths([10]) is not None
    assert plots.history_lengths([1, 4000]) is not None
    assert plots.target_ranks([1.0], 2) is not None


def test_nothing_to_draw_is_none(bare: ReportContent) -> None:
    assert plots.losses((), ()) is None
    assert plots.recall_by_epoch(({"epoch": 1, "valid_loss": 0.5, "valid_recall_sum": None},)) is None
    assert plots.pretraining(()) is None
    assert plots.p_yes([], []) is None
    assert plots.target_ranks([], 0) is None
    assert plots.history_lengths([]) is None
    assert plots.intervals(boards(bare.metrics, bare.system)[0], "Precision") is None


def test_a_short_log_is_drawn_too(content: ReportContent) -> None:
    log = replace(content.log, steps=({"step": 1, "epoch": 0.5, "loss": 0.7},))
    svg = plots.losses(log.steps, ())
    assert svg is not None
    assert "training loss 0.700 at epoch 0.5" in svg
