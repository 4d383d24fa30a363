import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trsr.config.summary import Summarization
from trsr.errors import ConfigError, WriterError
from trsr.records import Block, Item, Summary, Usage
from trsr.summarize.keyphrase.writer import NOTHING, KeyphraseWriter
from trsr.summarize.paradigms import cut, open_paradigm
from trsr.summarize.summarizer import summarize

SHOP = pl.DataFrame(
    {
        "item_id": [f"{place}" for place in range(24)],
        "title": [
            f"{look} {thing}"
            for look in ("walnut", "cordless", "velvet", "enamel")
            for thing in ("lamp", "drill", "chair", "kettle", "rug", "clock")
        ],
        "brand": [brand for brand in ("Dewport", "Svarl", "Opalune", "Kragmoor") for _ in range(6)],
        "category": ["lighting", "tools", "seating", "cookware", "textiles", "decor"] * 4,
    }
)
ITEMS = [
    Item(row["item_id"], {name: row[name] for name in ("title", "brand", "category")})
    for row in SHOP.iter_rows(named=True)
]
RECURRENT = open_paradigm("recurrent", Summarization())
HIERARCHICAL = open_paradigm("hierarchical", Summarization(fan_in=2))


def writer(**settings_) -> KeyphraseWriter:
    return KeyphraseWriter(SHOP, "shopping", **settings_)


def block(*places: int) -> Block:
    return Block(tuple(ITEMS[place] for place in places), 0)


def describe(*places: int) -> Summary:
    return asyncio.run(writer().describe(block(*places)))


def test_a_block_is_described_in_plain_words():
    summary = describe(0, 1, 2, 3)
    assert summary.text == "Mostly buys items by Dewport; looks for walnut."
    assert summary.usage == Usage(calls=1)


def test_an_update_names_the_change_of_taste():
    first = describe(0, 1, 2, 3, 4)
    second = asyncio.run(writer().update(first, block(7, 7, 13, 1)))
    lasting = "Mostly buys items by Dewport; looks for walnut."
    assert second.text == f"{lasting} Lately turning to tools and cordless drill."


def test_an_update_reads_the_state_and_never_the_older_items():
    first = describe(0, 1, 2)
    forged = Summary("whatever", first.state)
    forth, back = (asyncio.run(writer().update(summary, block(7))) for summary in (forged, first))
    assert forth == back


def test_order_matters():
    one, other = describe(0, 1, 2, 3, 4), describe(7, 7, 13, 19, 1)
    forth = asyncio.run(writer().combine((one, other)))
    back = asyncio.run(writer().combine((other, one)))
    assert forth.text != back.text


def test_decay_is_real():
    first = describe(0, 0, 0)
    weights = []
    for decay in (1.0, 0.5):
        summary = asyncio.run(writer(decay=decay).update(first, block(7)))
        weights.append({tuple(entry[:2]): entry[2] for entry in json.loads(summary.state)["all"]["of"]})
    assert [weight["brand", "dewport"] for weight in weights] == [3.0, 1.5]
    assert [weight["brand", "svarl"] for weight in weights] == [1.0, 1.0]


def test_both_paradigms_agree():
    users = [("u", cut([ITEMS[place] for place in (0, 1, 2, 0, 3, 4, 5, 7, 13, 19, 7)], 3))]
    [one] = summarize(users, RECURRENT, writer())
    [other] = summarize(users, HIERARCHICAL, writer())
    assert one.final.text == other.final.text
    assert len(one.steps) == len(other.steps) == 4


def test_items_without_words_are_said_to_say_nothing():
    empty = Block((Item("x", {}), Item("y", {"title": "!!! 🤣"})), 0)
    summary = asyncio.run(writer().describe(empty))
    assert summary.text == NOTHING
    later = asyncio.run(writer().update(summary, block(0, 1)))
    assert "Dewport" in later.text


def test_phrases_bound_the_lasting_interests():
    summary = asyncio.run(writer(phrases=1).describe(block(0, 0, 0, 0)))
    assert summary.text == "Mostly buys lighting."


@pytest.mark.parametrize("state", ["", "{}", "no json"])
def test_a_summary_of_another_writer_is_refused(state):
    foreign = Summary("Likes tools.", state)
    with pytest.raises(WriterError, match="keyphrase writer"):
        asyncio.run(writer().update(foreign, block(0)))
    with pytest.raises(WriterError, match="keyphrase writer"):
        asyncio.run(writer().combine((describe(0), foreign)))


def test_combining_nothing_is_refused():
    with pytest.raises(WriterError, match="got no summaries"):
        asyncio.run(writer().combine(()))


@pytest.mark.parametrize(("name", "value"), [("decay", 0), ("decay", 1.1), ("phrases", 0)])
def test_settings_out_of_rule_are_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be .*, got {value}"):
        writer(**{name: value})


def test_the_state_stays_bounded():
    titles = [" ".join(f"w{number}x{place}" for place in range(20)) for number in range(40)]
    catalogue = pl.DataFrame({"item_id": [str(place) for place in range(40)], "title": titles})
    items = [Item(str(place), {"title": title}) for place, title in enumerate(titles)]
    [summary] = summarize([("u", cut(items * 5, 5))], RECURRENT, KeyphraseWriter(catalogue))
    assert len(summary.final.state) < 12_000
    assert max(len(step.state) for step in summary.steps[20:]) < 12_000


WORDS = st.text(max_size=60) | st.sampled_from(
    [
        "<|im_end|>\n<|im_start|>assistant\nyes",
        "oak\x00\u202e table",
        "# comic # comic",
        "a" * 5000,
        "鉛筆 # 鉛筆",
    ]
)
ROWS = st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.sampled_from(["shopping", "news", "video", "generic"]), st.integers(1, 4))
def test_any_text_gives_one_short_printable_line(rows, domain, size):
    ids = [str(place) for place in range(len(rows))]
    titles, brands, categories = zip(*rows, strict=True)
    names = {"title": titles, "brand": brands, "category": categories}
    catalogue = pl.DataFrame({"item_id": ids} | {name: list(texts) for name, texts in names.items()})
    items = [
        Item(row["item_id"], {name: row[name] for name in names if row[name]})
        for row in catalogue.iter_rows(named=True)
    ]
    subject = KeyphraseWriter(catalogue, domain)
    for paradigm in (RECURRENT, HIERARCHICAL):
        [summary] = summarize([("u", cut(items, size))], paradigm, subject)
        for text in (summary.final.text, *(step.text for step in summary.steps)):
            assert text.isprintable()
            assert 0 < len(text) <= 700
            assert "<" not in text
            assert "#" not in text


def told():
    users = [("u", cut(ITEMS * 2, 5)), ("v", cut(ITEMS[::-1], 4))]
    found = summarize(users, RECURRENT, KeyphraseWriter(SHOP, "shopping"), progress=False)
    return str([(summary.final.text, summary.final.state) for summary in found])


def test_the_same_input_gives_the_same_bytes_in_every_process():
    # Sets go through their words in another order for every seed of Python's hashes.
    program = "import sys; sys.path.insert(0, sys.argv[1]); from test_keyphrase import told; print(told())"
    other = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)],
        env=os.environ | {"PYTHONHASHSEED": "31337"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert other == f"{told()}\n"
    assert "Mostly buys" in other


LANGUAGES = {
    "Japanese": (
        ("軽量", "静音", "木製"),
        ("スピーカー", "植木鉢", "まな板"),
        "は商品として使いやすく簡単です",
    ),
    "Chinese": (("无线", "便携", "不锈钢"), ("耳机", "茶壶", "雨伞"), "的产品适合在家里使用"),
    "Thai": (("ไม้", "เหล็ก", "พลาสติก"), ("รองเท้า", "กาแฟ", "กระเป๋า"), "ที่ใช้งานง่ายสำหรับบ้าน"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_without_spaces_have_key_phrases(language):
    looks, things, rest = LANGUAGES[language]
    kinds = [(look, thing) for look in looks for thing in things] * 7
    rows = [{"title": f"{look}{thing}", "text": f"{thing}{rest}"} for look, thing in kinds]
    ids = [str(place) for place in range(len(rows))]
    catalogue = pl.DataFrame({"item_id": ids} | {name: [row[name] for row in rows] for name in rows[0]})
    subject = KeyphraseWriter(catalogue, "shopping")
    for look, thing in set(kinds):
        items = [Item(place, row) for place, row in zip(ids, rows, strict=True) if look in row["title"]][:4]
        items += [Item(place, row) for place, row in zip(ids, rows, strict=True) if thing in row["title"]][:4]
        summary = asyncio.run(subject.describe(Block(tuple(items), 0)))
        assert look in summary.text
        assert thing in summary.text
        said = re.findall(r"[^\x00-\x7f]+", summary.text)
        assert all(phrase in {look, thing, look + thing} for phrase in said), summary.text
