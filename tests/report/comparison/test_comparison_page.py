from __future__ import annotations

import csv
import re
import statistics
from dataclasses import replace
from io import StringIO
from urllib.parse import unquote

import pytest
from page_structure import HOSTILE, Structure

from trsr.evaluation.statistics import Estimate
from trsr.report.comparison.page import render
from trsr.report.comparison.results import (
    Choice,
    ComparisonContent,
    Kind,
    Option,
    Provenance,
    Roster,
    Slice,
    Standing,
    System,
    Table,
)
from trsr.report.insights import Bin, Calibration, Duels, FusedWeight, Fusion, Placed
from trsr.report.wording import signed


def table_of(page: str, sampler: str) -> str:
    return page.split(f'data-sampler="{sampler}"')[1].split("</table>")[0]


def row_of(table: str, label: str) -> str:
    return next(row for row in table.split("<tr")[2:] if f"<bdi>{label}</bdi>" in row)


def test_the_page_is_whole_and_balanced(comparison_page: str) -> None:
    structure = Structure(comparison_page)
    assert structure.open == []
    assert structure.tags.count("h1") == 1
    assert structure.tags.count("script") == 1
    assert len(structure.ids) == len(set(structure.ids))
    links = {value for tag, name, value in structure.attributes if (tag, name) == ("a", "href")}
    inside = {link[1:] for link in links if link.startswith("#")}
    assert inside <= set(structure.ids)
    assert {"tables", "pictures", "catalogue", "probabilities", "agreement", "provenance"} <= inside


def test_the_page_loads_nothing(comparison_page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", comparison_page)
    for tag, name, value in Structure(comparison_page).attributes:
        assert name != "src"
        assert name != "href" or value.startswith(("#", "data:")), (tag, value)
        assert not name.startswith("on")
    assert "default-src 'none'" in comparison_page


@pytest.mark.usefixtures("undrawn")
def test_the_same_content_gives_the_same_bytes(comparison: ComparisonContent, comparison_page: str) -> None:
    assert render(comparison) == render(comparison)  # that plots are drawn alike is a test of theirs
    assert len(comparison_page.encode()) < 2_000_000


def test_every_figure_of_every_table_stands_in_its_row(
    comparison: ComparisonContent, comparison_page: str
) -> None:
    assert comparison.catalogue is not None
    roster = Roster(comparison.systems)
    for source in (*comparison.tables, comparison.catalogue):
        table = table_of(comparison_page, source.sampler)
        assert len(table.split("<tr")) == len(source.standings) + 2
        for standing in source.standings:
            row = row_of(table, roster.label(standing.system))
            assert f">{standing.users}<" in row
            for name, value in standing.metrics.items():
                assert f'<span class="mean">{value.mean:.3f}' in row
                assert f"<small>{value.low:.3f}–{value.high:.3f}</small>" in row
                means = standing.by_seed.get(name, ())
                if len(means) > 1:
                    assert f"± {statistics.stdev(means):.3f}" in row
            p = standing.p_against_best.get(comparison.measure)
            assert p is None or f">{p:.3f}<" in row or ">&lt; 0.001<" in row
    popularity = row_of(table_of(comparison_page, "uniform"), "Popularity")
    assert ">3.1%<" in popularity
    for text in (">18,211<", "0.04 s"):
        assert text in popularity
    assert ">4 a positive, uniform<" in row_of(
        table_of(comparison_page, "uniform"), roster.label("recurrent")
    )


def test_sampled_and_whole_catalogue_figures_never_share_a_table(
    comparison: ComparisonContent, comparison_page: str
) -> None:
    samplers = re.findall(r'data-sampler="([^"]*)"', comparison_page)
    assert samplers == ["uniform", "popularity", "catalogue", "two steps"]
    assert "5,310 other items" in comparison_page.split('id="catalogue"')[1]


def test_the_best_is_bold_and_who_cannot_be_told_from_it_is_marked(
    comparison: ComparisonContent, comparison_page: str
) -> None:
    roster = Roster(comparison.systems)
    for source in comparison.tables:
        table = table_of(comparison_page, source.sampler)
        for position, name in enumerate(comparison.tables[0].standings[0].metrics):
            best = max(standing.metrics[name].mean for standing in source.standings)
            for standing in source.standings:
                cells = re.findall(
                    r'<td class="num( best)?( tied)?" data-value="[^"]*"><span class="mean">',
                    row_of(table, roster.label(standing.system)),
                )
                is_best, is_tied = (bool(mark) for mark in cells[position])
                assert is_best == (standing.metrics[name].mean == best)
                p = standing.p_against_best.get(name)
                assert is_tied == (not is_best and p is not None and p >= 0.05)
    assert "★" in table
    assert "≈" in table


def test_the_exact_expectation_stands_beside_the_sampled_figure(
    comparison: ComparisonContent, comparison_page: str
) -> None:
    table = comparison_page.split('class="metrics systems sortable exact')[1].split("</table>")[0]
    roster = Roster(comparison.systems)
    shown = [standing for standing in comparison.tables[0].standings if standing.exact]
    assert len(table.split("<tr")) == len(shown) + 2
    for standing in shown:
        row = row_of(table, roster.label(standing.system))
        for name, value in standing.exact.items():
            assert f">{value:.3f}<small>sampled {standing.metrics[name].mean:.3f}</small>" in row


def test_the_two_step_table_tells_its_ceiling(comparison: ComparisonContent, comparison_page: str) -> None:
    assert comparison.two_stage is not None
    part = comparison_page.split(">In two steps<")[1].split("</section>")[0]
    ceiling = comparison.two_stage.ceiling
    for text in ("SASRec from text proposes 100 items", f"{ceiling.mean:.3f}", f"{ceiling.low:.0%}"):
        assert text in part
    for standing in comparison.two_stage.standings:
        for value in standing.metrics.values():
            assert f"{value.mean:.3f}" in part


def test_plots_name_every_figure_for_those_who_cannot_see_them(
    comparison: ComparisonContent, comparison_page: str
) -> None:
    roster = Roster(comparison.systems)
    for table in comparison.tables:
        for found in table.slices:
            assert f"({found.users} users)" in comparison_page
            for name, value in found.values.items():
                assert f"{roster.label(name)} {value.mean:.3f}" in comparison_page
        for standing in table.standings:
            assert f"{standing.recall_curve[0].mean:.3f} at 1" in comparison_page
    for system in comparison.systems:
        if system.seconds:
            assert re.search(rf"{re.escape(roster.label(system.name))} 0\.\d+ after", comparison_page)


def test_calibration_and_weights_are_told(comparison: ComparisonContent, comparison_page: str) -> None:
    part = comparison_page.split('id="probabilities"')[1].split("</section>")[0]
    for one in comparison.calibration:
        for text in (f"{one.ece:.3f}", f"{one.brier:.3f}", one.note):
            assert text in part
        for found in one.bins:
            assert f"said {found.predicted:.3f}, true {found.observed:.3f} of {found.count}" in part
    assert comparison.fusion is not None
    for weight in comparison.fusion.weights:
        assert f">{signed(weight.weight)}<" in part
        assert f"{signed(weight.low)} to {signed(weight.high)}" in part
    assert "Most weight goes to SASRec from text (+1.203)" in part
    assert "−3.217" in part


def test_the_heat_map_holds_every_share(comparison: ComparisonContent, comparison_page: str) -> None:
    assert comparison.agreement is not None
    table = comparison_page.split('class="heat"')[1].split("</table>")[0]
    shown = re.findall(r'<td class="num[^"]*" style="--heat:([\d.]+)">([\d.]+)<', table)
    shares = [share for row in comparison.agreement.shared for share in row]
    assert [text for _, text in shown] == [f"{100 * share:.1f}" for share in shares]
    assert [float(heat) for heat, _ in shown] == pytest.approx([s / max(shares) for s in shares], abs=6e-4)
    assert table.count("own-hits") == len(comparison.agreement.systems)


def test_cards_show_both_orders_and_the_rule(comparison: ComparisonContent, comparison_page: str) -> None:
    assert comparison.duels is not None
    part = comparison_page.split(">Users, one by one<")[1]
    assert comparison.duels.rule in part
    for card in (*comparison.duels.wins, *comparison.duels.losses):
        shown = part.split(f"<bdi>{card.user_id}</bdi>")[1].split('<details class="user"')[0]
        assert f"place {card.model_rank:g} against {card.baseline_rank:g}" in shown
        for text in (*card.history, card.summary, card.target):
            assert text in shown
        for line in (*card.model_top, *card.baseline_top):
            assert line.text in shown
            assert f"{line.score:.3f}" in shown
        assert shown.count("taken next") == 1


def test_provenance_holds_what_was_given(comparison: ComparisonContent, comparison_page: str) -> None:
    part = comparison_page.split('<section id="provenance">')[1]
    source = comparison.provenance
    texts = [source.command, source.test, *source.versions.values(), *source.hashes, *source.hashes.values()]
    for text in (*texts, "2,411", "0, 1, 2", "hidden 128, layers 1", "LM, recurrent summary", "1 h 26 min"):
        assert text in part
    for choice in source.choices:
        for option in choice.options:
            assert option.value is None or f"{option.value:.3f}" in part


def test_the_csv_holds_every_figure_in_full(comparison: ComparisonContent, comparison_page: str) -> None:
    href = comparison_page.split('download="demo.csv" href="')[1].split('"')[0]
    text = unquote(href.removeprefix("data:text/csv;charset=utf-8,"))
    rows = {(row["candidates"], row["system"], row["measure"]): row for row in csv.DictReader(StringIO(text))}
    for table in comparison.tables:
        for standing in table.standings:
            for name, value in standing.metrics.items():
                row = rows[table.sampler, standing.system, name]
                assert (float(row["mean"]), float(row["low"])) == (value.mean, value.low)
                exact = standing.exact.get(name)
                assert row["exact"] == ("" if exact is None else str(exact))


def only(comparison: ComparisonContent, names: set[str]) -> ComparisonContent:
    """Leave a comparison of some systems, with nothing that was measured of others."""

    def left(table: Table) -> Table:
        return replace(
            table,
            standings=tuple(
                replace(s, p_against_best={}) if len(names) == 1 else s
                for s in table.standings
                if s.system in names
            ),
            contrasts=tuple(c for c in table.contrasts if {c.first, c.second} <= names),
            slices=tuple(
                replace(s, values={n: v for n, v in s.values.items() if n in names}) for s in table.slices
            ),
        )

    return replace(
        comparison,
        systems=tuple(system for system in comparison.systems if system.name in names),
        tables=tuple(map(left, comparison.tables)),
        language_model=comparison.language_model if comparison.language_model in names else "",
        baseline=comparison.baseline if comparison.baseline in names else "",
        catalogue=None,
        two_stage=None,
        calibration=(),
        fusion=None,
        agreement=None,
        duels=None,
    )


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_of_one_system_claims_nothing(comparison: ComparisonContent) -> None:
    page = render(only(comparison, {"sasrec"}))
    assert Structure(page).open == []
    assert "Only SASRec was measured: there is nothing to compare it with" in page
    for sentence in (
        "No language model in this comparison", "No fused ranker in this comparison",
        "No system ranked the whole catalogue", "No two-step ranking was run",
        "No probabilities were checked",
        "Shared hits were not counted", "this needs a language model and a baseline",
        "Times of fewer than two systems",
    ):  # fmt: skip
        assert sentence in page


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_without_a_language_model_says_so(comparison: ComparisonContent) -> None:
    names = {system.name for system in comparison.systems if system.kind is Kind.BASELINE}
    page = render(only(comparison, names))
    assert Structure(page).open == []
    assert "No language model in this comparison" in page
    assert "SASRec from text" in page.split("</h1>")[0]


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_of_one_sampler_and_nothing_else(comparison: ComparisonContent) -> None:
    two = only(comparison, {"sasrec", "recurrent"})
    page = render(replace(two, tables=two.tables[:1]))
    assert Structure(page).open == []
    assert page.count("data-sampler=") == 1


def test_nothing_measured_is_said() -> None:
    content = ComparisonContent("empty", "NDCG@10", (), (), Provenance("trsr compare", "name: empty\n"))
    page = render(content)
    assert Structure(page).open == []
    assert "Nothing has been measured yet" in page
    assert "No system has been measured." in page


def test_figures_that_could_not_be_computed_are_dashes() -> None:
    nan = float("nan")
    standing = Standing("a", 0, {"NDCG@10": Estimate(nan, nan, nan)})
    table = Table("uniform", 21, (standing,))
    page = render(ComparisonContent("empty", "NDCG@10", (System("a"),), (table,), Provenance("x", "y")))
    assert Structure(page).open == []
    row = row_of(table_of(page, "uniform"), "a")
    assert '<span class="mean">–</span>' in row
    assert "nan" not in row


def test_hostile_texts_are_shown_and_never_run(comparison: ComparisonContent) -> None:
    assert comparison.duels is not None
    name = HOSTILE
    value = Estimate(0.5, 0.4, 0.6)
    system = System(name, name, Kind.LANGUAGE_MODEL, name, 5, name, 2.0, 2)
    other = System("other" + name, "", Kind.FUSED, name, 5, name, 3.0, 2)
    standings = tuple(
        Standing(one.name, 3, {"AUC" + name: value, "NDCG@10": value}) for one in (system, other)
    )
    card = replace(
        comparison.duels.wins[0], user_id=name, history=(name,), summary=name, target=name,
        model_top=(Placed(name, 0.5, True),), baseline_top=(Placed(name, 0.5),),
    )  # fmt: skip
    choice = Choice(name, name, (Option(name, 0.5),) * 8, name)
    table = Table(name, 21, standings, slices=(Slice(name, name, 3, {name: value}),), note=name)
    hostile = replace(
        comparison, name=name, systems=(system, other), tables=(table,), language_model=name, baseline=name,
        catalogue=table, two_stage=None, agreement=None, duels=Duels(name, (card,), (card,), name),
        calibration=(Calibration(name, (Bin(0.5, 0.5, 3),), 0.1, 0.2, name),),
        fusion=Fusion(name, (FusedWeight(name, 1.0), FusedWeight(f"x, {name}", 1.0)), name),
        provenance=Provenance(name, name, versions={name: name}, hashes={name: name}, users={name: 3},
                              choices=(choice,), test=name),
    )  # fmt: skip
    page = render(hostile)
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "img" not in structure.tags
    assert not [attribute for _, attribute, _ in structure.attributes if attribute.startswith("on")]
    assert "".join(structure.text).count(HOSTILE) >= 25
    assert len(structure.ids) == len(set(structure.ids))
