import re

import pytest

from trsr.config.data import RecBoleData
from trsr.data.readers.registry import detect, read
from trsr.errors import DataError

ITEMS = (
    "item_id:token\tclass:token_seq\ttitle:token_seq\tprice:float\tvector:float_seq\n"
    "007\tspy film\tGold Eye\t9.0\t0.1 0.2\n"
    "8\t\tSaw & Hammer\t\t0.3\n"
    "9\ttool\tMug\tcheap\t0.3\n"
)
EVENTS = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "u\t8\t5\t200.0\nu\t007\t4.5\t100.0\nv\t9\t1\t300\nv\t8\t?\t400\nv\t007\t5\t50\n"
)


def shop(write, inter=EVENTS, items=ITEMS, **settings):
    files = inter if isinstance(inter, dict) else {"shop.inter": inter}
    return RecBoleData(format="recbole", path=write({"shop.item": items, **files}), **settings)


def test_fields_are_read_by_their_types_and_a_title_comes_first(write, counts_of):
    dataset, findings = read(shop(write))
    assert dataset.fields == ("title", "class", "price")
    assert dataset.items.rows() == [
        ("007", "Gold Eye", "spy film", "9"),
        ("8", "Saw & Hammer", "", ""),
        ("9", "Mug", "tool", ""),
    ]
    counts = counts_of(findings)
    assert (counts["bad-number"], counts["number-lists"]) == (1, 1)
    told = next(finding for finding in findings if finding.rule == "bad-number")
    assert told.examples == ("shop.item:4: price: cheap",)


def test_events_are_put_in_order_of_time(write):
    dataset, _ = read(shop(write))
    assert dataset.histories.rows() == [
        ("u", ["007", "8"], [100, 200]),
        ("v", ["007", "9", "8"], [50, 300, 400]),
    ]


def test_low_and_unreadable_ratings_are_no_interactions(write, histories_of, counts_of):
    dataset, findings = read(shop(write, min_rating=4))
    assert histories_of(dataset) == {"u": ["007", "8"], "v": ["007"]}
    assert {"low-rating": 1, "bad-row": 1}.items() <= counts_of(findings).items()


def test_a_list_and_the_item_after_it_make_the_history(write, histories_of):
    rows = "user_id:token\titem_id_list:token_seq\titem_id:token\nu\t007 8\t9\nv\t\t8\n"
    dataset, findings = read(shop(write, rows))
    assert histories_of(dataset) == {"u": ["007", "8", "9"], "v": ["8"]}
    assert dataset.histories["times"].null_count() == 2
    assert {finding.rule for finding in findings} == {"bad-number", "number-lists"}


def test_rows_of_one_user_in_parts_of_a_benchmark_are_stitched(write, histories_of, counts_of):
    head = "user_id:token\titem_id_list:token_seq\titem_id:token\n"
    files = {
        "shop.train.inter": f"{head}w\t9\t8\nw\t9\t8\nu\t007\t8\n",
        "shop.valid.inter": f"{head}u\t007 8\t9\n",
        "shop.test.inter": f"{head}u\t007 8 9\t007\nx\t9\t\n",
    }
    dataset, findings = read(shop(write, files))
    assert histories_of(dataset) == {"w": ["9", "8"], "u": ["007", "8", "9", "007"]}
    assert counts_of(findings)["duplicate-row"] == 1
    bad = next(finding for finding in findings if finding.rule == "bad-row")
    assert (bad.count, bad.examples[0]) == (1, "shop.test.inter:3: x | 9 | ")
    newest = shop(write, files, files=("shop.valid.inter",))
    assert histories_of(read(newest)[0]) == {"u": ["007", "8", "9"]}


def test_rows_that_start_the_longest_one_are_in_it_whatever_their_order_and_length(write, histories_of):
    ids = [str(number) for number in range(300)]
    items = "item_id:token\ttitle:token\n" + "".join(f"{name}\tT{name}\n" for name in ids)
    rows = [f"u\t{' '.join(ids[:size])}\t{ids[size]}\n" for size in (298, 299, 5)]
    source = shop(write, "user_id:token\titem_id_list:token_seq\titem_id:token\n" + "".join(rows), items)
    assert histories_of(read(source)[0]) == {"u": ids}
    with (source.path / "shop.inter").open("a") as file:
        file.write(f"u\t{' '.join(reversed(ids))}\t7\n")
    with pytest.raises(DataError, match=r"shop\.inter:2: user 'u' has rows that don't continue.*data\.files"):
        read(source)


def test_other_field_names_are_settings(write, histories_of):
    source = shop(
        write, "session:token\tsku:token\nu\t8\nu\t9\n", "sku:token\ttitle:token\n8\tA\n9\tB\n",
        user_field="session", item_field="sku",
    )  # fmt: skip
    assert histories_of(read(source)[0]) == {"u": ["8", "9"]}


@pytest.mark.parametrize(
    ("inter", "items", "told"),
    [
        (EVENTS.replace("rating:float", "rating:int"), ITEMS, "shop.inter:1: .*token_seq.*got 'rating:int'"),
        (EVENTS, ITEMS.replace("price:float", "price"), "shop.item:1: .*got 'price'"),
        (EVENTS.replace("user_id:", "uid:"), ITEMS, "shop.inter: no column 'user_id'.*'uid'"),
        (EVENTS, ITEMS.replace("item_id:", "sku:"), "shop.item: no column 'item_id'"),
        (EVENTS, "item_id:token\n007\n", "shop.item:1: items need a field of text"),
        (EVENTS, ITEMS.replace("class:token_seq", "title:token"), "shop.item:1: field names must differ"),
        (EVENTS.replace("100.0", "soon").replace("\t50\n", "\tx\n"), ITEMS, ""),
    ],
)
def test_wrong_headers_are_refused_with_file_and_line(write, counts_of, inter, items, told):
    source = shop(write, inter, items)
    if told:
        with pytest.raises(DataError, match=told):
            read(source)
    else:
        assert counts_of(read(source)[1])["bad-time"] == 2


def test_without_texts_or_with_two_names_the_next_step_is_told(write):
    folder = write({"a.inter": EVENTS})
    with pytest.raises(DataError, match=re.escape("a.item: no such file; RecBole's data are NAME.inter and")):
        read(detect(folder))
    write({"b.inter": EVENTS, "b.item": ITEMS})
    with pytest.raises(DataError, match=r"the names a, b; set data\.name"):
        read(detect(folder))
    assert read(RecBoleData(format="recbole", path=folder, name="b"))[0].items.height == 3


def test_real_games_against_plain_counting(real_data, histories_of):
    folder = real_data("games6k")
    dataset, _ = read(detect(folder))
    wanted = {}
    for line in (folder / "games.test.inter").read_text(encoding="utf-8").splitlines()[1:]:
        user, history, target = line.split("\t")
        wanted[user] = [*history.split(), target]
    assert (len(wanted), dataset.items.height) == (50546, 16859)
    assert histories_of(dataset) == wanted
