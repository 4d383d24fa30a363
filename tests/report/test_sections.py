from __future__ import annotations

import csv
import re
import statistics
from dataclasses import replace
from io import StringIO
from urllib.parse import unquote

import pytest
from page_structure import HOSTILE, Structure

from trsr.evaluation.calibration import Calibration, ReliabilityBin
from trsr.evaluation.statistics import Estimate
from trsr.report.page import render
from trsr.report.results import (
    Choice,
    FusionWeights,
    Kind,
    MetricTable,
    Option,
    Provenance,
    RankedItem,
    RankedList,
    Results,
    Slice,
    System,
    SystemCalibration,
    SystemRow,
    UserCase,
    UserCases,
)
from trsr.report.sections import agreement
from trsr.report.words import signed


def table_of(page: str, sampler: str) -> str:
    return page.split(f'data-table="{sampler}"')[1].split("</table>")[0]


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


@pytest.mark.usefixtures("undrawn")
def test_differences_that_were_asked_for_stand_below_their_table(
    comparison: Results, comparison_page: str
) -> None:
    assert "pair-tests" not in comparison_page
    table = comparison.tables[0]
    [test] = [test for test in table.tests if (test.first, test.second) == ("recurrent", "sasrec_text")]
    asked = replace(comparison, tables=(replace(table, pairs=(test,)), *comparison.tables[1:]))
    page = render(asked)
    assert Structure(page).open == []
    [shown] = page.split('pair-tests">')[1:]
    row = row_of(shown.split("</table>")[0], comparison.label("recurrent"))
    assert f"<bdi>{comparison.label('sasrec_text')}</bdi>" in row
    assert signed(test.difference.mean) in row
    assert f"{test.wins} / {test.losses} / {test.ties}" in row
    assert (
        page.index('data-table="uniform"') < page.index("pair-tests") < page.index('data-table="popularity"')
    )


@pytest.mark.usefixtures("undrawn")
def test_the_same_content_gives_the_same_bytes(comparison: Results, comparison_page: str) -> None:
    assert render(comparison) == render(comparison)  # that plots are drawn alike is a test of theirs
    assert len(comparison_page.encode()) < 2_000_000


def test_every_figure_of_every_table_stands_in_its_row(comparison: Results, comparison_page: str) -> None:
    assert comparison.catalogue is not None
    for source in (*comparison.tables, comparison.catalogue):
        table = table_of(comparison_page, source.sampler)
        assert len(table.split("<tr")) == len(source.rows) + 2
        for measured in source.rows:
            row = row_of(table, comparison.label(measured.system))
            assert f">{measured.users}<" in row
            for name, value in measured.metrics.items():
                assert f'<span class="mean">{value.mean:.3f}' in row
                assert f"<small>{value.low:.3f}–{value.high:.3f}</small>" in row
                means = measured.by_seed.get(name, ())
                if len(means) > 1:
                    assert f"± {statistics.stdev(means):.3f}" in row
            p = measured.p_against_best.get(comparison.measure)
            assert p is None or f">{p:.3f}<" in row or ">&lt;0.001<" in row
    assert ">3.1%<" in row_of(table_of(comparison_page, "uniform"), "Popularity")


def test_every_system_says_what_it_does_and_how_it_was_trained(
    comparison: Results, comparison_page: str
) -> None:
    table = comparison_page.split('class="systems sortable"')[1].split("</table>")[0]
    for system in comparison.systems:
        assert f">{system.description}<" in row_of(table, comparison.label(system.name))
    for text in (">18,211<", ">0.04 s<"):
        assert text in row_of(table, "Popularity")
    assert ">4 a positive, uniform<" in row_of(table, comparison.label("recurrent"))


def test_sampled_and_whole_catalogue_figures_never_share_a_table(
    comparison: Results, comparison_page: str
) -> None:
    samplers = re.findall(r'data-table="([^"]*)"', comparison_page)
    assert samplers == ["uniform", "popularity", "catalogue", "two-stage"]
    assert "5,310 other items" in comparison_page.split('id="catalogue"')[1]


def test_lists_beyond_accuracy_are_folded_up_below_the_catalogue(comparison_page: str) -> None:
    """Coverage, which is of all users together, stands there without an interval."""
    section = comparison_page.split('id="catalogue"')[1]
    folded = section.split("What the lists are beyond being right")[1].split("</details>")[0]
    text = " ".join(re.sub(r"<[^>]+>", " ", folded).split())
    assert text.count("@10") == 3
    assert text.endswith("Random order 0.987 0.012 0.004–0.032 11.750 11.500–12.250")


def test_the_best_is_bold_and_who_cannot_be_told_from_it_is_marked(
    comparison: Results, comparison_page: str
) -> None:
    for source in comparison.tables:
        table = table_of(comparison_page, source.sampler)
        for position, name in enumerate(comparison.tables[0].rows[0].metrics):
            best = max(measured.metrics[name].mean for measured in source.rows)
            for measured in source.rows:
                cells = re.findall(
                    r'<td class="num( best)?( tied)?" data-value="[^"]*"><span class="mean">',
                    row_of(table, comparison.label(measured.system)),
                )
                is_best, is_tied = (bool(mark) for mark in cells[position])
                assert is_best == (measured.metrics[name].mean == best)
                p = measured.p_against_best.get(name)
                assert is_tied == (not is_best and p is not None and p >= 0.05)
    assert "★" in table
    assert "≈" in table


def test_the_exact_expectation_stands_beside_the_sampled_figure(
    comparison: Results, comparison_page: str
) -> None:
    table = comparison_page.split('class="metrics sortable exact')[1].split("</table>")[0]
    shown = [measured for measured in comparison.tables[0].rows if measured.exact]
    assert len(table.split("<tr")) == len(shown) + 2
    for measured in shown:
        row = row_of(table, comparison.label(measured.system))
        for name, value in measured.exact.items():
            assert f">{value:.3f}<small>sampled {measured.metrics[name].mean:.3f}</small>" in row


def test_the_two_step_table_tells_its_ceiling(comparison: Results, comparison_page: str) -> None:
    assert comparison.two_stage is not None
    part = comparison_page.split(">In two steps<")[1].split("</section>")[0]
    ceiling = comparison.two_stage.ceiling
    for text in ("SASRec from text proposes 100 items", f"{ceiling.mean:.3f}", f"{ceiling.low:.0%}"):
        assert text in part
    for measured in comparison.two_stage.rows:
        for value in measured.metrics.values():
            assert f"{value.mean:.3f}" in part


def test_plots_name_every_figure_for_those_who_cannot_see_them(
    comparison: Results, comparison_page: str
) -> None:
    for table in comparison.tables:
        for found in table.slices:
            assert f"({found.users} users)" in comparison_page
            for name, value in found.values.items():
                assert f"{comparison.label(name)} {value.mean:.3f}" in comparison_page
        for measured in table.rows:
            assert f"{measured.metrics['Recall@3'].mean:.3f} at 3" in comparison_page
    for system in comparison.systems:
        if system.seconds:
            assert re.search(rf"{re.escape(comparison.label(system.name))} 0\.\d+ after", comparison_page)


def test_calibration_and_weights_are_told(comparison: Results, comparison_page: str) -> None:
    part = comparison_page.split('id="probabilities"')[1].split("</section>")[0]
    for one in comparison.calibration:
        ece, brier = one.measured.ece_equal_mass, one.measured.brier
        for text in (f"{ece.mean:.3f}", f"{ece.low:.3f}–{ece.high:.3f}", f"{brier.mean:.3f}", one.note):
            assert text in part
        for found in one.measured.equal_mass:
            assert f"said {found.predicted:.3f}, true {found.observed:.3f} of {found.pairs}" in part
    assert comparison.fusion is not None
    for weight in comparison.fusion.weights.values():
        assert f">{signed(weight)}<" in part
    assert part.index(">SASRec from text<") < part.index(">Popularity<") < part.index(">TF-IDF similarity<")
    assert 'style="width:100.0%"' in part
    assert "Most weight: SASRec from text (+1.203), then LM (recurrent summary) (+0.412)" in part
    assert "Against a candidate: Popularity." in part


def test_the_heat_map_holds_every_share(comparison: Results, comparison_page: str) -> None:
    assert comparison.agreement is not None
    table = comparison_page.split('class="heat"')[1].split("</table>")[0]
    shown = re.findall(r'<td class="num[^"]*" style="--heat:([\d.]+)">([\d.]+)<', table)
    shares = [share for row in comparison.agreement.shared for share in row]
    assert [text for _, text in shown] == [f"{100 * share:.1f}" for share in shares]
    assert [float(heat) for heat, _ in shown] == pytest.approx([s / max(shares) for s in shares], abs=6e-4)
    assert table.count("own-hits") == len(comparison.agreement.systems)


def test_no_hits_at_all_have_no_colour(comparison: Results) -> None:
    assert comparison.agreement is not None
    none = replace(comparison.agreement, shared=tuple((0.0,) * 14 for _ in range(14)))
    assert agreement(replace(comparison, agreement=none))["top"] == 1.0


def test_cards_show_both_orders_and_the_rule(comparison: Results, comparison_page: str) -> None:
    assert comparison.cases is not None
    part = comparison_page.split('id="users"')[1]
    assert comparison.cases.rule in part
    for name, group in comparison.cases.groups.items():
        assert f">{name}<" in part
        for case in group:
            shown = part.split(f"<bdi>{case.user_id}</bdi>")[1].split('<details class="user"')[0]
            first, second = case.rankings
            assert f"place {first.rank:g} against {second.rank:g}" in shown
            assert ('class="bar"' in shown) is False, "two systems' scores share no scale"
            for text in (*case.history, case.summary, case.target):
                assert text in shown
            for item in (*first.items, *second.items):
                assert item.text in shown
                assert f"{item.score:.3f}" in shown
            assert shown.count("taken next") == sum(item.is_target for item in (*first.items, *second.items))


def test_provenance_holds_what_was_given(comparison: Results, comparison_page: str) -> None:
    part = comparison_page.split('<section id="provenance">')[1]
    source = comparison.provenance
    texts = [source.command, source.test, *source.versions.values(), *source.hashes, *source.hashes.values()]
    for text in (*texts, "2,411", "0, 1, 2", "hidden 128, layers 1", "LM (recurrent summary)", "1 h 26 min"):
        assert text in part
    for choice in source.choices:
        for option in choice.options:
            assert option.value is None or f"{option.value:.3f}" in part


def test_the_csv_holds_every_figure_in_full(comparison: Results, comparison_page: str) -> None:
    href = comparison_page.split('download="demo.csv" href="')[1].split('"')[0]
    text = unquote(href.removeprefix("data:text/csv;charset=utf-8,"))
    rows = {row["system"]: row for row in csv.DictReader(StringIO(text))}
    for table in comparison.tables:
        for measured in table.rows:
            row = rows[measured.system]
            for name, value in measured.metrics.items():
                column = f"{table.sampler} {name}"
                assert (float(row[column]), float(row[f"{column} low"])) == (value.mean, value.low)
                exact = row.get(f"{column} expected") or None
                assert (exact and float(exact)) == measured.exact.get(name)


def only(comparison: Results, names: set[str]) -> Results:
    """Leave a comparison of some systems, with nothing that was measured of others."""

    def left(table: MetricTable) -> MetricTable:
        return replace(
            table,
            rows=tuple(
                replace(s, p_against_best={}) if len(names) == 1 else s
                for s in table.rows
                if s.system in names
            ),
            tests=tuple(t for t in table.tests if {t.first, t.second} <= names),
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
        cases=None,
    )


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_of_one_system_claims_nothing(comparison: Results) -> None:
    page = render(only(comparison, {"sasrec"}))
    assert Structure(page).open == []
    assert "Only SASRec was measured: there is nothing to compare it with" in page
    for sentence in (
        "No language model was measured", "No fused ranker was measured",
        "No system ranked the whole catalogue", "No two-step ranking was run",
        "No probabilities were checked",
        "Shared hits were not counted", "No users are shown",
        "Times of fewer than two systems",
    ):  # fmt: skip
        assert sentence in page


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_without_a_language_model_says_so(comparison: Results) -> None:
    names = {system.name for system in comparison.systems if system.kind is Kind.BASELINE}
    page = render(only(comparison, names))
    assert Structure(page).open == []
    assert "No language model was measured" in page
    assert "SASRec from text" in page.split("</h1>")[0]


@pytest.mark.usefixtures("undrawn")
def test_a_comparison_of_one_sampler_and_nothing_else(comparison: Results) -> None:
    two = only(comparison, {"sasrec", "recurrent"})
    page = render(replace(two, tables=two.tables[:1]))
    assert Structure(page).open == []
    assert page.count("data-table=") == 1


def test_nothing_measured_is_said() -> None:
    content = Results("empty", "NDCG@10", (), (), Provenance("trsr compare", "name: empty\n"))
    page = render(content)
    assert Structure(page).open == []
    assert "Nothing has been measured yet" in page
    assert "No system has been measured." in page


def test_figures_that_could_not_be_computed_are_dashes() -> None:
    nan = float("nan")
    standing = SystemRow("a", 0, {"NDCG@10": Estimate(nan, nan, nan)})
    table = MetricTable("uniform", 21, (standing,))
    page = render(Results("empty", "NDCG@10", (System("a"),), (table,), Provenance("x", "y")))
    assert Structure(page).open == []
    row = row_of(table_of(page, "uniform"), "a")
    assert '<span class="mean">–</span>' in row
    assert "nan" not in row


def test_hostile_texts_are_shown_and_never_run(comparison: Results) -> None:
    name = HOSTILE
    value = Estimate(0.5, 0.4, 0.6)
    system = System(name, name, Kind.LANGUAGE_MODEL, name, 5, name, 2.0, 2)
    other = System("other" + name, "", Kind.FUSED, name, 5, name, 3.0, 2)
    rows = tuple(SystemRow(one.name, 3, {"AUC" + name: value, "NDCG@10": value}) for one in (system, other))
    ranking = RankedList(name, 1.0, (RankedItem(name, 0.5, True),), 21)
    case = UserCase(name, (name,), name, (ranking, ranking), name, (name,))
    choice = Choice(name, name, (Option(name, 0.5),) * 8, name)
    table = MetricTable(name, 21, rows, slices=(Slice(name, name, 3, {name: value}),), note=name)
    bins = (ReliabilityBin(0, 1, 3, 0.5, 0.5),)
    calibration = Calibration(3, 3, 0.5, bins, bins, value, value, value, value)
    hostile = replace(
        comparison, name=name, systems=(system, other), tables=(table,), language_model=name, baseline=name,
        catalogue=table, two_stage=None, agreement=None, cases=UserCases(name, {name: (case,)}, name),
        calibration=(SystemCalibration(name, calibration, name),),
        fusion=FusionWeights(name, {name: 1.0, f"x, {name}": 1.0}, name),
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
