from __future__ import annotations

import re
from dataclasses import replace

import polars as pl
import pytest
from page_structure import HOSTILE, Structure

from trsr.records import ITEM, TARGET, USER, Finding
from trsr.report.content import BillLine, Failure, RankedLine, ReportContent
from trsr.report.insights import Bin, Calibration, FusedWeight, Fusion
from trsr.report.page import p_yes_scale, render


@pytest.fixture(scope="module")
def page(content: ReportContent) -> str:
    return render(content)


def test_the_page_is_whole_and_balanced(page: str) -> None:
    structure = Structure(page)
    assert structure.open == []
    assert structure.tags.count("h1") == 1
    assert structure.tags.count("svg") == 9
    assert len(structure.ids) == len(set(structure.ids))
    links = {value[1:] for tag, name, value in structure.attributes if (tag, name) == ("a", "href")}
    assert links <= set(structure.ids)


def test_the_page_loads_nothing(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", page)
    for tag, name, value in Structure(page).attributes:
        assert name != "src"
        assert name != "href" or value.startswith(("#", "data:,")), (tag, value)
        assert not name.startswith("on")
    assert "default-src 'none'" in page


def test_the_same_content_gives_the_same_bytes_in_under_2_mb(content: ReportContent, page: str) -> None:
    assert render(content) == page
    assert len(page.encode()) < 2_000_000


def test_every_mean_and_interval_stands_in_its_table(content: ReportContent, page: str) -> None:
    for split in ("test", "valid"):
        table = page.split(f'data-split="{split}"')[1].split("</table>")[0]
        for splits in content.metrics["systems"].values():
            for value in splits[split]["metrics"].values():
                assert f">{value['mean']:.3f}<" in table
                assert f"<small>{value['low']:.3f}–{value['high']:.3f}</small>" in table
    assert page.index('data-split="test"') < page.index('data-split="valid"')


@pytest.mark.usefixtures("undrawn")
def test_the_best_of_each_column_is_marked_also_when_the_model_is_not_it(with_recalls) -> None:  # type: ignore[no-untyped-def]
    table = (
        render(with_recalls(own=0.2, random=0.14, tfidf=0.45))
        .split('data-split="test"')[1]
        .split("</table>")[0]
    )
    marked = [row for row in table.split("<tr")[1:] if "best-mark" in row]
    assert len(marked) == 1
    assert "TF-IDF similarity" in marked[0]
    assert marked[0].count("★") == 9


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("own", "verdict"), [(0.5, "above"), (0.33, "unclear"), (0.1, "below")])
def test_the_first_screen_is_honest(with_recalls, own: float, verdict: str) -> None:  # type: ignore[no-untyped-def]
    assert f'data-verdict="{verdict}"' in render(with_recalls(own=own, tfidf=0.3))


def test_hostile_texts_are_shown_and_never_run(content: ReportContent) -> None:
    card = replace(
        content.cards[0],
        user_id=HOSTILE,
        history=(HOSTILE,),
        steps=(HOSTILE,),
        summary=HOSTILE,
        ranked=(RankedLine(HOSTILE, 0.5, is_target=True),),
    )
    run = replace(
        content.run, config=HOSTILE, writer=HOSTILE, versions={HOSTILE: HOSTILE}, hashes={HOSTILE: HOSTILE}
    )
    system = {HOSTILE: content.metrics["systems"][content.system]}
    hostile = replace(
        content,
        name=HOSTILE,
        system=HOSTILE,
        metrics={**content.metrics, "sampler": HOSTILE, "systems": system},
        run=run,
        cards=(card,),
        findings=(Finding(HOSTILE, HOSTILE, 1, HOSTILE, (HOSTILE,)),),
        candidates=content.candidates.with_columns(pl.lit(HOSTILE).alias(USER)),
        scores=content.scores.with_columns(pl.lit(HOSTILE).alias(USER), pl.lit(HOSTILE).alias(ITEM)),
        histories=content.histories.with_columns(pl.lit(HOSTILE).alias(TARGET)),
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


@pytest.mark.usefixtures("undrawn")
def test_a_lone_surrogate_does_not_keep_the_page_from_being_written(content: ReportContent) -> None:
    made = render(replace(content, cards=(replace(content.cards[0], summary="broken \ud800 text"),)))
    assert "broken ? text" in made.encode("utf-8").decode()


def test_cards_show_what_was_known_written_and_ranked(content: ReportContent, page: str) -> None:
    for card in content.cards:
        part = page.split(f"<bdi>{card.user_id}</bdi>")[1].split('<details class="user"')[0]
        assert f"target at {card.rank:g} of 21" in part
        for text in (*card.history, *card.steps, card.summary, *(line.text for line in card.ranked)):
            assert text in part
        assert part.count("taken next") == 1
        marked = part.split('<li class="target">')[1].split("</li>")[0]
        target = next(line for line in card.ranked if line.is_target)
        assert target.text in marked
        assert f'<span class="p">{target.p_yes:.3f}</span>' in marked


def test_bars_share_one_scale(content: ReportContent, page: str) -> None:
    assert p_yes_scale(content.cards) == 0.9
    assert p_yes_scale(()) == 1.0
    assert "A full bar is p(yes) = 0.9 on every card" in page
    assert 'style="width:100.0%"' in page.split('id="users"')[1]


def test_the_run_card_holds_what_was_given(content: ReportContent, page: str) -> None:
    part = page.split('id="run"')[1]
    for text in (
        "name: demo\nseed: 0",
        "3.11.2",
        "ab" * 32,
        "3 min 10 s",
        "4,321",
        "99,001",
        "5,005",
        "keyphrase",
    ):
        assert text in part
    assert '<th scope="row">run</th><td>11</td>' in part


def test_findings_are_listed_with_counts_and_places(page: str) -> None:
    part = page.split('id="data"')[1].split("</section>")[0]
    assert "1,234" in part
    assert "dropped" in part
    assert "a.tsv:3: x9" in part
    assert part.count("<details") == 1


def test_what_is_missing_is_said_in_plain_words(bare: ReportContent) -> None:
    made = render(bare)
    structure = Structure(made)
    assert structure.open == []
    assert structure.tags.count("svg") == 3
    for sentence in (
        "No training log", "No validation Recall was logged", "No pre-training in this run", "No scores with",
        "No histories are at hand", "No users are shown", "Nothing had to be repaired", "writes no summaries",
        "No seeds were recorded", "No versions were recorded", "No hashes were recorded",
    ):  # fmt: skip
        assert sentence in made


@pytest.mark.usefixtures("undrawn")
def test_a_user_without_summary_is_shown_without_an_empty_box(content: ReportContent) -> None:
    made = render(replace(content, cards=(replace(content.cards[0], summary="", steps=()),)))
    part = made.split('id="users"')[1].split("</section>")[0]
    assert "paradigm none" in part
    assert "<blockquote" not in part
    assert 'class="steps"' not in part


def test_measures_over_no_users_are_dashes_and_claim_nothing(content: ReportContent) -> None:
    nothing = {"mean": None, "low": None, "high": None}
    entry = {"test": {"users": 0, "tie_rate": None, "metrics": {"Recall@3": nothing}}}
    metrics = {**content.metrics, "systems": {content.system: entry, "random": entry}}
    made = render(replace(content, metrics=metrics))
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


def with_fused(content: ReportContent) -> ReportContent:
    systems = content.metrics["systems"]
    test = {**systems[content.system]["test"]}
    test["metrics"] = {**test["metrics"], "AUC": {"mean": 0.871, "low": 0.852, "high": 0.893}}
    return replace(
        content,
        metrics={**content.metrics, "systems": {**systems, "TRSR fused": {"test": test}}},
        fused="TRSR fused",
        fusion=Fusion(
            "TRSR fused", (FusedWeight("itemknn", 1.25), FusedWeight("popularity", -0.5)), "17 users"
        ),
        calibration=(
            Calibration(
                content.system, (Bin(0.1, 0.05, 90), Bin(0.6, 0.4, 10)), 0.123, 0.234, "20 negatives"
            ),
        ),
    )


@pytest.mark.usefixtures("undrawn")
def test_the_fused_ranker_is_no_baseline(content: ReportContent) -> None:
    made = render(with_fused(content))
    assert Structure(made).open == []
    assert 'data-verdict="above"' in made
    assert "than every baseline" in made.split("</h1>")[0]
    table = made.split('data-split="test"')[1].split("</table>")[0]
    assert table.count('<tr class="fused">') == table.count('<tr class="own">') == 1
    assert "Joined with other systems, the fused ranker reached 52%" in made
    assert "not clearly above each of them alone" in made


@pytest.mark.usefixtures("undrawn")
def test_auc_has_a_column_without_a_cut_off(content: ReportContent) -> None:
    table = render(with_fused(content)).split('data-split="test"')[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col" class="num">(.*?)</th>', table)
    assert heads[9] == "AUC"
    assert heads[0] == 'Recall<span class="cut">@3</span>'
    assert ">0.871<" in table
    assert "<small>0.852–0.893</small>" in table


@pytest.mark.usefixtures("undrawn")
def test_probabilities_and_weights_are_told(content: ReportContent) -> None:
    part = render(with_fused(content)).split('id="probabilities"')[1].split("</section>")[0]
    assert "Most weight goes to ItemKNN (+1.250). Popularity counts against a candidate." in part
    assert "Fitted on: 17 users." in part
    for text in ("0.123", "0.234", "20 negatives", "said 0.600, true 0.400 of 10", "−0.500"):
        assert text in part


@pytest.mark.usefixtures("undrawn")
def test_a_run_without_probabilities_has_no_empty_section(content: ReportContent) -> None:
    assert 'id="probabilities"' not in render(content)
    assert '"#probabilities"' not in render(content)


@pytest.mark.usefixtures("undrawn")
def test_failed_users_are_counted_and_listed_with_their_reasons(content: ReportContent) -> None:
    failures = tuple(Failure(f"broken-{number}", f"refused {HOSTILE}") for number in range(3))
    made = render(replace(content, failures=failures))
    structure = Structure(made)
    assert structure.open == []
    assert structure.tags.count("script") == 1
    assert "3 users without a summary" in made
    for failure in failures:
        assert f"<strong>{failure.user_id}</strong>: refused &lt;script&gt;" in made


@pytest.mark.usefixtures("undrawn")
def test_many_failed_users_are_cut_and_it_is_said(content: ReportContent) -> None:
    failures = tuple(Failure(f"broken-{number:03}", "no") for number in range(250))
    made = render(replace(content, failures=failures))
    assert "250 users without a summary" in made
    assert "broken-199<" in made
    assert "broken-200<" not in made
    assert "The first 200 are listed" in made


@pytest.mark.usefixtures("undrawn")
def test_the_bill_stands_planned_beside_actual(content: ReportContent) -> None:
    bill = (BillLine("prompt tokens", 120_000.0, 118_765.0), BillLine("cost", 1.5, None))
    part = render(replace(content, bill=bill)).split('class="pairs bill"')[1].split("</table>")[0]
    assert '>prompt tokens</th><td class="num">120,000</td><td class="num">118,765</td>' in part
    assert '>cost</th><td class="num">1.5000</td><td class="num">–</td>' in part
