from __future__ import annotations

import re
import statistics
from dataclasses import replace

import pytest
from made_ablation import made_ablation
from page_structure import HOSTILE, Structure

from trsr.evaluation.statistics import Estimate
from trsr.report.ablation import AblationContent, Cell, Expectation, Grid, Panel, Variant, headline
from trsr.report.page import render
from trsr.report.results import Provenance

VALUE = Estimate(0.5, 0.4, 0.6)


@pytest.fixture(scope="module")
def ablation() -> AblationContent:
    return made_ablation()


@pytest.fixture(scope="module")
def page(ablation: AblationContent) -> str:
    return render(ablation)


def test_the_page_is_whole_balanced_and_loads_nothing(ablation: AblationContent, page: str) -> None:
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("h1") == 1
    assert structure.tags.count("svg") == len(ablation.panels) + len(ablation.grids)
    assert len(structure.ids) == len(set(structure.ids))
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)


def test_every_figure_of_every_variant_stands_in_its_row(ablation: AblationContent, page: str) -> None:
    rows = page.split('class="metrics sortable variants"')[1].split("</table>")[0].split("<tr")[2:]
    expected = [(panel, variant) for panel in ablation.panels for variant in panel.variants]
    assert len(rows) == len(expected)
    for row, (panel, variant) in zip(rows, expected, strict=True):
        value = variant.value
        for text in (
            panel.name, panel.setting, f">{variant.label}", f">{value.mean:.3f}", f">{value.low:.3f}–",
            f"–{value.high:.3f}<", f">{statistics.stdev(variant.by_seed):.3f}<",
            ", ".join(f"{mean:.3f}" for mean in variant.by_seed), ">250<",
        ):  # fmt: skip
            assert text in row
        assert variant.p is None or f">{variant.p:.3f}<" in row
        assert ('class="fused"' in row) == variant.is_default
        best = max(other.value.mean for other in panel.variants)
        assert ("★" in row) == (value.mean == best)


def test_every_panel_names_its_default_for_those_who_cannot_see_it(
    ablation: AblationContent, page: str
) -> None:
    for panel in ablation.panels:
        default = next(variant for variant in panel.variants if variant.is_default)
        assert f"{default.label} (default) {default.value.mean:.3f}" in page
        assert panel.question in page


def test_planted_orders_are_checked_by_the_interval_of_the_difference(page: str) -> None:
    part = page.split('id="grids"')[1].split("</section>")[0]
    checks = re.findall(r'<li data-check="(\w+)"><strong>(.*?):</strong> (.*?)\.', part)
    assert checks == [
        ("holds", "Comes out", "(recurrent, 0) above (none, 0)"),
        ("fails", "The contrary came out", "(none, 5) above (recurrent, 0)"),
        ("open", "Can’t be told", "(recurrent, 5) above (recurrent, 0)"),
        ("absent", "Not measured", "(none, 5) above (none, 0)"),
    ]
    assert "+0.410 (+0.330 to +0.490)" in part


def test_every_cell_of_a_grid_stands_in_its_table(ablation: AblationContent, page: str) -> None:
    part = page.split('id="grids"')[1].split("</table>")[0]
    for cell in ablation.grids[0].cells:
        assert f'<span class="mean">{cell.value.mean:.3f}</span>' in part
        assert f"{cell.value.low:.3f}–{cell.value.high:.3f}" in part


def test_the_headline_tells_what_matters_and_claims_no_equality(ablation: AblationContent) -> None:
    result, sentences = headline(ablation)
    assert result.title == "Clearly matters, of 8 settings: summary, recent items and loss"
    assert "loss “listwise” (+" in sentences[0]
    assert "summary “none” (−" in sentences[1]
    assert "This does not show that the values are equal" in sentences[2]


def panel(*variants: Variant) -> Panel:
    return Panel("writer", "summary.writer", "Who?", variants)


@pytest.mark.parametrize(
    ("p", "title"),
    [
        (0.01, "Clearly matters, of 1 setting: writer"),
        (0.2, "No changed setting can be told apart from the default"),
        (None, "No changed setting can be told apart from the default"),
    ],
)
def test_only_a_test_makes_a_setting_matter(ablation: AblationContent, p: float | None, title: str) -> None:
    variants = (Variant("a", VALUE, is_default=True), Variant("b", Estimate(0.9, 0.8, 1.0), p=p))
    result, sentences = headline(replace(ablation, panels=(panel(*variants),)))
    assert result.title == title
    assert ("Not tested: writer." in sentences) == (p is None)


def test_nothing_changed_is_said(ablation: AblationContent) -> None:
    page = render(replace(ablation, panels=(), grids=()))
    assert Structure(page).open == []
    assert "No setting was changed" in page
    assert 'id="grids"' not in page
    assert 'id="panels"' not in page


def test_hostile_texts_are_shown_and_never_run() -> None:
    variant = Variant(HOSTILE, VALUE, (0.4, 0.6), note=HOSTILE)
    grid = Grid(
        HOSTILE, HOSTILE, (HOSTILE, "none"), (HOSTILE,), (Cell(HOSTILE, HOSTILE, VALUE),),
        (Expectation((HOSTILE, HOSTILE), ("none", HOSTILE), HOSTILE),),
    )  # fmt: skip
    shown = Panel(HOSTILE, HOSTILE, HOSTILE, (variant,))
    provenance = Provenance(HOSTILE, HOSTILE)
    page = render(AblationContent(HOSTILE, HOSTILE, HOSTILE, 21, HOSTILE, (shown,), provenance, (grid,)))
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "img" not in structure.tags
