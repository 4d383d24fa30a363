from __future__ import annotations

import math
import re
from dataclasses import replace

import polars as pl
import pytest
from made_run import OWN, results_of
from page_structure import HOSTILE, Structure

from trsr.evaluation.statistics import Estimate
from trsr.records import ITEM, TARGET, USER, Finding
from trsr.report.bill import BillLine
from trsr.report.page import RunContent, render
from trsr.report.results import (
    FusionWeights,
    Kind,
    MetricTable,
    RankedItem,
    RankedList,
    System,
    SystemRow,
    UserCases,
)


@pytest.fixture(scope="module")
def page(content: RunContent) -> str:
    return render(content)


def test_the_page_is_whole_and_balanced(page: str) -> None:
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("h1") == 1
    assert structure.tags.count("svg") == 2 + 9 + 5, (
        "first screen and curves, every measure, training and data"
    )
    assert len(structure.ids) == len(set(structure.ids))
    links = {value for tag, name, value in structure.attributes if (tag, name) == ("a", "href")}
    assert {link[1:] for link in links if link.startswith("#")} <= set(structure.ids)


@pytest.mark.parametrize("shown", ["page", "comparison_page"])
def test_the_page_loads_nothing(shown: str, request: pytest.FixtureRequest) -> None:
    page: str = request.getfixturevalue(shown)
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)
    for tag, name, value in Structure(page).attributes:
        assert name != "src"
        assert name != "href" or value.startswith(("#", "data:")), (tag, value)
        assert not name.startswith("on")
    assert "default-src 'none'" in page


def test_the_same_content_gives_the_same_bytes_in_under_2_mb(content: RunContent, page: str) -> None:
    assert render(content) == page
    assert len(page.encode()) < 2_000_000


def test_every_mean_and_interval_stands_in_its_table(content: RunContent, page: str) -> None:
    for name, table in zip(("uniform", "valid uniform"), content.results.tables, strict=True):
        part = page.split(f'data-table="{name}"')[1].split("</table>")[0]
        for row in table.rows:
            for value in row.metrics.values():
                assert f'class="mean">{value.mean:.3f}<' in part
                assert f"<small>{value.low:.3f}–{value.high:.3f}</small>" in part
    assert page.index(">Test users, uniform negatives") < page.index(">Validation users, uniform negatives")


@pytest.mark.usefixtures("undrawn")
def test_the_best_of_each_column_is_marked_also_when_the_model_is_not_it(content: RunContent) -> None:
    results = results_of({OWN: 0.2, "random": 0.14, "tfidf": 0.45})
    made = render(replace(content, results=results))
    table = made.split('data-table="uniform"')[1].split("</table>")[0]
    marked = [row for row in table.split("<tr")[1:] if "best-mark" in row]
    assert len(marked) == 1
    assert "TF-IDF similarity" in marked[0]
    assert marked[0].count("★") == 9


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("own", "answer"), [(0.5, "yes"), (0.33, "open"), (0.1, "no")])
def test_the_first_screen_is_honest(content: RunContent, own: float, answer: str) -> None:
    made = render(replace(content, results=replace(results_of({OWN: own, "tfidf": 0.3}), baseline="tfidf")))
    heading = "Does the language model alone beat the best baseline?"
    before, after = made.split(heading)
    assert before.rsplit("data-answer=", 1)[1].startswith(f'"{answer}"')
    assert f"no paired test, the intervals {'overlap' if answer == 'open' else 'don’t overlap'}." in after


def test_hostile_texts_are_shown_and_never_run(content: RunContent) -> None:
    name = HOSTILE
    results = content.results
    assert results.cases is not None
    case = replace(
        results.cases.groups[""][0],
        user_id=name, history=(name,), steps=(name,), summary=name, target=name,
        rankings=(RankedList(name, 1.0, (RankedItem(name, 0.5, is_target=True),), 1),),
    )  # fmt: skip
    rows = tuple(replace(row, system=name) for row in results.tables[0].rows[:1])
    shown = replace(
        results, name=name, systems=(System(name, kind=Kind.LANGUAGE_MODEL),), language_model=name,
        tables=(replace(results.tables[0], sampler=name, rows=rows),),
        provenance=replace(results.provenance, config=name, versions={name: name}, hashes={name: name}),
        cases=UserCases(name, {name: (case,)}, name),
    )  # fmt: skip
    hostile = replace(
        content,
        results=shown,
        writer=name,
        failures={name: name},
        findings=(Finding(name, name, 1, name, (name,)),),
        candidates=content.candidates.with_columns(pl.lit(name).alias(USER)),
        scores=content.scores.with_columns(pl.lit(name).alias(USER), pl.lit(name).alias(ITEM)),
        histories=content.histories.with_columns(pl.lit(name).alias(TARGET)),
    )
    made = render(hostile)
    structure = Structure(made)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "img" not in structure.tags
    assert not [name for _, name, _ in structure.attributes if name.startswith("on")]
    assert "".join(structure.text).count(HOSTILE) >= 12
    assert "49" not in re.findall(r"\{\{.*?\}\}|\b49\b", made.split('id="users"')[1].split("</section>")[0])


def test_the_only_script_is_the_one_that_the_policy_allows(page: str) -> None:
    import_free = page.split("<script>")[1].split("</script>")[0]
    assert page.count("<script") == 1
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", page.replace("&#39;", "'"))
    assert "fetch" not in import_free
    assert "innerHTML" not in import_free


def with_case(content: RunContent, **changes: object) -> RunContent:
    assert content.results.cases is not None
    case = replace(content.results.cases.groups[""][0], **changes)  # type: ignore[arg-type]
    return replace(content, results=replace(content.results, cases=UserCases("", {"": (case,)})))


@pytest.mark.usefixtures("undrawn")
def test_a_lone_surrogate_does_not_keep_the_page_from_being_written(content: RunContent) -> None:
    made = render(with_case(content, summary="broken \ud800 text"))
    assert "broken ? text" in made.encode("utf-8").decode()


def test_cards_show_what_was_known_written_and_ranked(content: RunContent, page: str) -> None:
    assert content.results.cases is not None
    for case in content.results.cases.groups[""]:
        part = page.split(f"<bdi>{case.user_id}</bdi>")[1].split('<details class="user"')[0]
        [ranking] = case.rankings
        assert f"target at {ranking.rank:g} of 21" in part
        for text in (*case.history, *case.steps, case.summary, *(item.text for item in ranking.items)):
            assert text in part
        assert part.count("taken next") == 1
        marked = part.split('<li class="target">')[1].split("</li>")[0]
        target = next(item for item in ranking.items if item.is_target)
        assert target.text in marked
        assert f'<span class="p">{target.score:.3f}</span>' in marked


def test_bars_share_one_scale(page: str) -> None:
    assert "A full bar is p(yes) = 0.9 on every card" in page
    assert 'style="width:100.0%"' in page.split('id="users"')[1]


def test_cost_and_provenance_hold_what_was_given(page: str) -> None:
    cost = page.split('id="cost"')[1].split("</section>")[0]
    for text in ("3 min 10 s", "4,321", "99,001", "5,005", "keyphrase"):
        assert text in cost
    part = page.split('id="provenance"')[1]
    for text in ("name: demo\nseed: 0", "3.11.2", "ab" * 32, "trsr run config.yaml"):
        assert text in part
    assert '<th scope="row">training</th><td>11</td>' in part
    assert '<th scope="row">Test users</th><td>207</td>' in part


def test_findings_are_listed_with_counts_and_places(page: str) -> None:
    part = page.split('id="data"')[1].split("</section>")[0]
    assert "1,234" in part
    assert "dropped" in part
    assert "a.tsv:3: x9" in part
    assert part.count("<details") == 1


def test_what_is_missing_is_said_in_plain_words(bare: RunContent) -> None:
    made = render(bare)
    structure = Structure(made)
    assert structure.open == []
    assert structure.tags.count("svg") == 2 + 8, "what was measured, and nothing that was not"
    for sentence in (
        "No training log", "No validation Recall was logged", "No pre-training in this run", "No scores with",
        "No histories are at hand", "No users are shown", "Nothing had to be repaired", "writes no summaries",
        "No seeds were recorded", "No versions were recorded", "No hashes were recorded",
        "Times of fewer than two systems", "No groups of users", "Nothing had to be chosen",
    ):  # fmt: skip
        assert sentence in made


@pytest.mark.parametrize("section", ["catalogue", "probabilities", "agreement"])
def test_what_a_run_has_not_measured_has_no_section(bare: RunContent, section: str) -> None:
    made = render(bare)
    assert f'id="{section}"' not in made
    assert f'"#{section}"' not in made


@pytest.mark.usefixtures("undrawn")
def test_a_user_without_summary_is_shown_without_an_empty_box(content: RunContent) -> None:
    made = render(with_case(content, summary="", steps=()))
    part = made.split('id="users"')[1].split("</section>")[0]
    assert "None: it read items of the history alone." in part
    assert "<blockquote" not in part
    assert 'class="steps"' not in part


def test_measures_over_no_users_are_dashes_and_claim_nothing(content: RunContent) -> None:
    nothing = {"Recall@3": Estimate(*[math.nan] * 3)}
    rows = (SystemRow(OWN, 0, nothing), SystemRow("random", 0, nothing))
    results = replace(content.results, tables=(MetricTable("uniform", 21, rows),))
    made = render(replace(content, results=results))
    assert Structure(made).open == []
    assert "Nothing has been measured yet" in made
    assert "nan" not in re.findall(r"\bnan\b", made.split('id="pictures"')[0])


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [("ink", "paper"), ("muted", "paper"), ("own", "paper"), ("own", "own-soft"), ("muted", "own-soft"),
     ("mark", "mark-soft"), ("mark", "paper"), ("mark", "own-soft"), ("ink", "sheet")],
)  # fmt: skip
def test_text_has_the_contrast_of_wcag_aa(page: str, scheme: int, text: str, ground: str) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", page.split(":root {")[1 + scheme].split("}")[0]))
    light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def with_fused(content: RunContent) -> RunContent:
    table = content.results.tables[0]
    own = table.row(OWN)
    assert own is not None
    metrics = {**own.metrics, "AUC": Estimate(0.871, 0.852, 0.893)}
    rows = (*table.rows, replace(own, system="TRSR fused", metrics=metrics))
    results = replace(
        content.results,
        systems=(*content.results.systems, System("TRSR fused", kind=Kind.FUSED)),
        tables=(replace(table, rows=rows),),
        fusion=FusionWeights("TRSR fused", {"itemknn": 1.25, "popularity": -0.5}, "17 users"),
    )
    return replace(content, results=results)


@pytest.mark.usefixtures("undrawn")
def test_the_fused_ranker_is_no_baseline(content: RunContent) -> None:
    made = render(with_fused(content))
    assert Structure(made).open == []
    table = made.split('data-table="uniform"')[1].split("</table>")[0]
    assert table.count('<tr class="fused">') == table.count('<tr class="language-model">') == 1
    assert "TRSR fused 0.486" in made.split('id="tables"')[0]
    assert "open" in made.split("Does joining it with other systems help?")[0].rsplit("data-answer", 1)[1]
    assert "Most weight: ItemKNN (+1.250). Against a candidate: Popularity. Fitted on: 17 users." in made


@pytest.mark.usefixtures("undrawn")
def test_auc_has_a_column_without_a_cut_off(content: RunContent) -> None:
    table = render(with_fused(content)).split('data-table="uniform"')[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col" class="num">(.*?)</th>', table)
    assert heads[9] == "AUC"
    assert heads[0] == 'Recall<span class="cut">@3</span>'
    assert ">0.871<" in table
    assert "<small>0.852–0.893</small>" in table


@pytest.mark.usefixtures("undrawn")
def test_failed_users_are_counted_and_listed_with_their_reasons(content: RunContent) -> None:
    failures = {f"broken-{number}": f"refused {HOSTILE}" for number in range(3)}
    made = render(replace(content, failures=failures))
    structure = Structure(made)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "3 users without a summary" in made
    for user in failures:
        assert f"<strong>{user}</strong>: refused &lt;script&gt;" in made


@pytest.mark.usefixtures("undrawn")
def test_many_failed_users_are_cut_and_it_is_said(content: RunContent) -> None:
    failures = {f"broken-{number:03}": "no" for number in range(250)}
    made = render(replace(content, failures=failures))
    assert "250 users without a summary" in made
    assert "broken-199<" in made
    assert "broken-200<" not in made
    assert "The first 200 are listed" in made


@pytest.mark.usefixtures("undrawn")
def test_the_bill_stands_planned_beside_actual(content: RunContent) -> None:
    bill = (BillLine("prompt tokens", 120_000.0, 118_765.0), BillLine("cost", 1.5, None))
    part = render(replace(content, bill=bill)).split('class="pairs bill"')[1].split("</table>")[0]
    assert '>prompt tokens</th><td class="num">120,000</td><td class="num">118,765</td>' in part
    assert '>cost</th><td class="num">1.5000</td><td class="num">–</td>' in part
