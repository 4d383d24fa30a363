import gzip
import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trsr.config.data import TableData
from trsr.data.readers.registry import read
from trsr.data.readers.tables import column_names, table_ending
from trsr.errors import DataError, TrsrError

ITEMS = "item_id,title,brand\na,Hammer,Acme\nb,Nail,\nc,Saw,Acme\n"
EVENTS = "user_id,item_id,time\nu,a,2020-01-01\nu,b,2020-01-02T00:00:00Z\nv,c,2020-01-01 10:00:00\n"
DAY = 18262 * 86400
"""1 January 2020 in unix seconds, by hand from 18,262 days since 1970."""


def tables(folder, **settings):
    paths = {key: folder / name for key, name in settings.items() if key in ("items", "events", "histories")}
    return TableData(format="tables", **(settings | paths))


def test_events_with_iso_times(write):
    dataset, findings = read(tables(write({"i.csv": ITEMS, "e.csv": EVENTS}), items="i.csv", events="e.csv"))
    assert dataset.items.rows() == [("a", "Hammer", "Acme"), ("b", "Nail", ""), ("c", "Saw", "Acme")]
    assert dataset.histories.rows() == [("u", ["a", "b"], [DAY, DAY + 86400]), ("v", ["c"], [DAY + 36000])]
    assert findings == ()


def test_own_names_and_chosen_text_fields(write):
    folder = write(
        {
            "i.tsv": "sku\tname\tprice\nx1\tHammer\t5\n",
            "e.jsonl": '{"who": 7, "what": "x1", "when": 1577836800000}\n'
            '{"who": 7, "what": "x1", "when": 1577836801000}\n',
        }
    )
    source = tables(
        folder, items="i.tsv", events="e.jsonl", item_id="sku", text_fields={"Title": "name"},
        user_column="who", item_column="what", time_column="when",
    )  # fmt: skip
    dataset, _ = read(source)
    assert dataset.items.rows(named=True) == [{"item_id": "x1", "Title": "Hammer"}]
    assert dataset.histories.rows() == [("7", ["x1", "x1"], [DAY, DAY + 1])]


def test_without_time_column_the_rows_are_in_order(write, histories_of):
    folder = write({"i.csv": ITEMS, "e.csv": "user_id,item_id\nu,b\nu,a\nu,b\n"})
    dataset, _ = read(tables(folder, items="i.csv", events="e.csv", time_column=None))
    assert histories_of(dataset) == {"u": ["b", "a", "b"]}
    assert dataset.histories["times"].to_list() == [None]


@pytest.mark.parametrize("written", ['"a,b"', "a b", '"[""a"", ""b""]"', "\"['a', 'b']\""])
def test_histories_as_text_of_every_spelling(write, histories_of, written):
    folder = write({"i.csv": ITEMS, "h.csv": f"user_id,item_ids\nu,{written}\n"})
    dataset, findings = read(tables(folder, items="i.csv", histories="h.csv"))
    assert histories_of(dataset) == {"u": ["a", "b"]}
    assert findings == ()


def test_histories_as_real_lists(tmp_path, histories_of):
    pl.DataFrame({"item_id": [1, 2], "title": ["A", None]}).write_parquet(tmp_path / "i.parquet")
    lists = pl.DataFrame(
        {"user_id": [10, 11, 12], "item_ids": [[1, 2], [], None]},
        schema_overrides={"item_ids": pl.List(pl.Int64)},
    )
    lists.write_parquet(tmp_path / "h.parquet")
    dataset, findings = read(tables(tmp_path, items="i.parquet", histories="h.parquet"))
    assert histories_of(dataset) == {"10": ["1", "2"]}
    assert {finding.rule: finding.count for finding in findings} == {"empty-text": 1, "empty-history": 2}


def test_unreadable_lists_are_left_out_and_located(write, histories_of):
    folder = write({"i.csv": ITEMS, "h.csv": 'user_id,item_ids\nu,"[a, [b]]"\nv,a\n'})
    dataset, (finding,) = read(tables(folder, items="i.csv", histories="h.csv"))
    assert histories_of(dataset) == {"v": ["a"]}
    assert (finding.rule, finding.examples) == ("bad-row", ("h.csv:2: [a, [b]]",))


def test_typed_columns_of_parquet_become_text(tmp_path):
    columns = {
        "item_id": [1.0, 2.0], "price": [1.5, None], "tags": [["x", "y"], []], "more": [{"k": 1}, {"k": 2}],
        "new": [True, False], "raw": [b"\x01", b""],
    }  # fmt: skip
    pl.DataFrame(columns).write_parquet(tmp_path / "i.parquet")
    pl.DataFrame({"user_id": ["u"], "item_id": [1]}).write_parquet(tmp_path / "e.parquet")
    dataset, _ = read(tables(tmp_path, items="i.parquet", events="e.parquet", time_column=None))
    assert dataset.items.rows() == [
        ("1", "1.5", "x, y", "k: 1", "true", "01"), ("2", "", "", "k: 2", "false", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "settings", "words"),
    [
        ({"i.csv": ITEMS, "e.csv": "user,item_id,time\n"}, {}, "'user_id'; the columns are 'user'"),
        ({"i.csv": "id,title\na,A\n", "e.csv": EVENTS}, {}, "'item_id'; the columns are 'id', 'title'"),
        ({"i.csv": ITEMS, "e.csv": EVENTS}, {"text_fields": {"t": "name"}}, "no column 'name'"),
        ({"i.csv": "item_id\na\n", "e.csv": EVENTS}, {}, "at least one text field"),
        ({"i.csv": ITEMS, "e.csv": ""}, {}, "the file is empty"),
        ({"i.csv": ITEMS, "e.csv": "user_id,item_id,time\n"}, {}, "no user has an interaction"),
        ({"i.csv": "item_id,title\n", "e.csv": EVENTS}, {}, "no item is left"),
    ],
)  # fmt: skip
def test_what_cannot_be_repaired_is_refused(write, files, settings, words):
    with pytest.raises(DataError, match=words):
        read(tables(write(files), items="i.csv", events="e.csv", **settings))


def test_unknown_endings_and_damaged_parquet_are_refused(write):
    folder = write({"i.parquet": "no parquet", "e.csv": EVENTS})
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(tables(folder, items="i.parquet", events="e.csv"))
    with pytest.raises(DataError, match=r"ending must be one of \.csv"):
        table_ending(Path("items.xlsx"))


def test_lists_and_objects_in_texts_are_words_whatever_the_format(tmp_path, counts_of):
    values = [["a", "b, c"], None, ["x", None]]
    nested = [{"name": "Bø", "in": [1]}, {"name": None, "in": []}, None]
    frame = pl.DataFrame({"item_id": ["1", "2", "3"], "tags": values, "brand": nested})
    frame.write_parquet(tmp_path / "i.parquet")
    frame.write_ndjson(tmp_path / "i.jsonl")
    frame.with_columns(
        pl.Series("tags", [str(["a", "b, c"]), "[NEW] lamp", "['x']"]), brand=pl.lit("{}")
    ).write_csv(tmp_path / "i.csv")
    (tmp_path / "e.csv").write_text("user_id,item_id\nu,1\n")
    told = {}
    for name in ("i.parquet", "i.jsonl", "i.csv"):
        dataset, findings = read(tables(tmp_path, items=name, events="e.csv", time_column=None))
        told[name] = dataset.items.rows()
        assert counts_of(findings)["list-in-text"]
    assert told["i.parquet"] == told["i.jsonl"]
    assert told["i.jsonl"] == [("1", "a, b, c", "name: Bø, in: 1"), ("2", "", "in: "), ("3", "x", "")]
    assert [tags for _, tags, _ in told["i.csv"]] == ["a b, c", "[NEW] lamp", "x"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14\0", "ZIP archive, as Excel's workbooks are; unpack it"),
        (b"SQLite format 3\0", "SQLite database; write each table out: sqlite3"),
        (b"PAR1\x15\x04", "Parquet file; let its name end in .parquet"),
        (b"\x28\xb5\x2f\xfd\x04", "packed by zstd; unpack it"),
    ],
)
@pytest.mark.parametrize("name", ["e.csv", "e.other"])
def test_files_of_another_kind_are_told_by_their_content(tmp_path, write, content, words, name):
    folder = write({"i.csv": ITEMS})
    (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(tables(folder, items="i.csv", events=name))


def test_a_text_may_begin_as_another_kind_does(write):
    folder = write({"i.csv": "ORC,item_id\nGrom,a\n", "e.csv": "user_id,item_id\nu,a\n"})
    dataset, _ = read(tables(folder, items="i.csv", events="e.csv", time_column=None))
    assert dataset.items.rows() == [("a", "Grom")]


def test_a_file_in_a_folder_of_parts_that_is_none_is_told_to_be_moved(write):
    folder = write({"i.csv": ITEMS})
    (folder / "e").mkdir()
    (folder / "e" / "1.csv").write_text(EVENTS)
    (folder / "e" / "README.txt").write_text("daily")
    with pytest.raises(DataError, match=r"README.txt: .* or move it out of the folder .*e, whose files"):
        read(tables(folder, items="i.csv", events="e"))


def test_column_names_of_every_format(tmp_path):
    frame = pl.DataFrame({"x": ["1"], "y z": ["2"]})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "t.jsonl")
    frame.write_parquet(tmp_path / "t.parquet")
    for ending in ("csv", "tsv", "jsonl", "parquet"):
        assert column_names(tmp_path / f"t.{ending}") == ["x", "y z"]


def write_as(frame: pl.DataFrame, path: Path) -> None:
    match path.suffix:
        case ".csv":
            frame.write_csv(path)
        case ".tsv":
            frame.write_csv(path, separator="\t")
        case ".jsonl":
            frame.write_ndjson(path)
        case _:
            frame.write_parquet(path)


TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<&[{\ufeff"), max_size=12
).filter(lambda text: not text or text.strip())
"""Texts that nothing has to be mended in."""
IDS = st.text(st.sampled_from("abAB019_-"), min_size=1, max_size=5)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(IDS, st.tuples(TEXT, TEXT), min_size=1, max_size=5),
    st.dictionaries(IDS, st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=4),
    st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
)
def test_tables_are_read_back_as_written(tmp_path_factory, catalogue, users, ending):
    folder = tmp_path_factory.mktemp("own")
    ids = list(catalogue)
    histories = {user: [ids[place % len(ids)] for place in places] for user, places in users.items()}
    items = pl.DataFrame(
        {"item_id": ids, "one": [t[0] for t in catalogue.values()], "two": [t[1] for t in catalogue.values()]}
    )
    events = pl.DataFrame(
        [(user, item, time) for user, items in histories.items() for time, item in enumerate(items)],
        schema=["user_id", "item_id", "time"], orient="row",
    )  # fmt: skip
    write_as(items, folder / f"i.{ending}")
    write_as(events, folder / f"e.{ending}")
    source = tables(folder, items=f"i.{ending}", events=f"e.{ending}", null_words=())
    dataset, _ = read(source)
    assert dataset.items.rows() == items.rows()
    assert dict(dataset.histories.select("user_id", "item_ids").iter_rows()) == histories
    assert dataset.histories["times"].to_list() == [list(range(len(items))) for items in histories.values()]


@settings(deadline=None)
@given(
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz"]),
    st.booleans(),
)
def test_any_bytes_end_in_a_data_set_or_an_error_of_ours(tmp_path_factory, items, rows, ending, as_events):
    folder = tmp_path_factory.mktemp("any")
    start = b"" if ending in (".parquet", ".csv.gz") else b"item_id,title\na,A\n"
    (folder / f"i{ending}").write_bytes(start + items)
    (folder / "r.csv").write_bytes(b"user_id,item_id,time\nu,a,1\n" + rows)
    (folder / "h.csv").write_bytes(b"user_id,item_ids\nu,a\n" + rows)
    kind = {"events": "r.csv"} if as_events else {"histories": "h.csv"}
    try:
        dataset, _ = read(tables(folder, items=f"i{ending}", **kind))
    except TrsrError:
        return
    assert dataset.histories.height >= 1


JSON = st.recursive(
    st.text(max_size=3) | st.just("a") | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(st.text(max_size=2), inside, max_size=2),
    max_leaves=3,
)


@settings(deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["item_id", "title", "é", "", "'", "_line"]), JSON), max_size=4)
)
def test_any_json_objects_as_items(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    (folder / "i.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "e.csv").write_text("user_id,item_id\nu,a\n")
    try:
        dataset, _ = read(tables(folder, items="i.jsonl", events="e.csv", time_column=None))
    except TrsrError:
        return
    assert dataset.histories.rows() == [("u", ["a"], None)]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_ids_meet_across_types(tmp_path, ending, histories_of, counts_of):
    pl.DataFrame({"item_id": [1, 2], "title": ["A", "B"]}).write_parquet(tmp_path / "i.parquet")
    happened = pl.DataFrame({"user_id": ["0007", " 7"], "item_id": [1.0, 2.0], "time": [1, 2]})
    write = {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}[ending]
    getattr(happened, write)(tmp_path / f"e.{ending}")
    dataset, findings = read(tables(tmp_path, items="i.parquet", events=f"e.{ending}"))
    assert histories_of(dataset) == {"0007": ["1"], "7": ["2"]}
    assert {"float-id": 2, "padded-id": 1}.items() <= counts_of(findings).items()


def test_newest_first_with_times_that_need_reading(write, histories_of):
    rows = [f"u,{item},01/{day:02}/2020 10:0{day % 10}" for day, item in ((19, "c"), (18, "b"), (3, "a"))]
    folder = write(
        {"i.csv": "item_id,title\na,A\nb,B\nc,C\n", "e.csv": "\n".join(["user_id,item_id,time", *rows])}
    )
    dataset, _ = read(tables(folder, items="i.csv", events="e.csv"))
    assert histories_of(dataset) == {"u": ["a", "b", "c"]}
    with pytest.raises(DataError, match=r"e\.csv:2: no time of column 'time' .* such as '01/19/2020"):
        read(tables(folder, items="i.csv", events="e.csv", time_format="%Y-%m-%d"))


def test_durations_are_refused_in_words(tmp_path, write):
    folder = write({"i.csv": "item_id,title\na,A\n"})
    events = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "time": [timedelta(days=3)]})
    events.write_parquet(folder / "e.parquet")
    with pytest.raises(DataError, match=r"e\.parquet: column 'time' holds durations"):
        read(tables(folder, items="i.csv", events="e.parquet"))


def test_a_format_of_times_is_checked(tmp_path):
    for form in ("%d/%m/%Y", "ms"):
        assert tables(tmp_path, items="i.csv", events="e.csv", time_format=form).time_format == form
    with pytest.raises(ValidationError, match="one of s, ms, us, ns"):
        tables(tmp_path, items="i.csv", events="e.csv", time_format="minutes")


def test_null_words_of_every_kind_of_table(tmp_path):
    frame = {"item_id": ["a", "NULL", "c"], "brand": ["None", "X", "Y"], "tags": [["None", "t"], [], ["nan"]]}
    pl.DataFrame(frame | {"price": [1.0, 2.0, float("nan")]}).write_parquet(tmp_path / "i.parquet")
    events = "user_id,item_id,time\nu,a,2020-01-01\nu,c,2020-01-02\nnan,a,2020-01-02\nu,NULL,2020-01-02\n"
    (tmp_path / "e.csv").write_text(events)
    dataset, findings = read(tables(tmp_path, items="i.parquet", events="e.csv"))
    assert dataset.items.rows() == [("a", "", "t", "1"), ("c", "Y", "", "")]
    assert dataset.histories.rows() == [("u", ["a", "c"], [DAY, DAY + 86400])]
    counted = {finding.rule: finding.count for finding in findings}
    assert counted == {"null-word": 7, "missing-id": 3, "list-in-text": 3}


def test_a_shop_that_sells_none_keeps_it(write):
    folder = write({"i.csv": "item_id,brand\na,None\nb,N/A\n", "e.csv": "user_id,item_id\nu,a\nu,b\n"})
    dataset, findings = read(
        tables(folder, items="i.csv", events="e.csv", time_column=None, null_words=["N/A"])
    )
    assert dataset.items.rows() == [("a", "None"), ("b", "")]
    assert [finding.count for finding in findings if finding.rule == "null-word"] == [1]


def test_the_encoding_of_the_settings_is_that_of_all_text_files(tmp_path):
    (tmp_path / "i.csv").write_bytes("item_id,title\nж,Нож\n".encode("cp1251"))
    (tmp_path / "e.csv").write_bytes("user_id,item_id\nu,ж\n".encode("cp1251"))
    source = tables(tmp_path, items="i.csv", events="e.csv", time_column=None, encoding="cp1251")
    dataset, findings = read(source)
    assert (dataset.items.rows(), findings) == ([("ж", "Нож")], ())


@pytest.mark.parametrize(
    ("header", "name"),
    [(",item_id,title", "Unnamed: 0"), ("Unnamed: 0,item_id,title", "Unnamed: 0"),
     ("__index_level_0__,item_id,title", "__index_level_0__"), ("index,item_id,title", "index")],
)  # fmt: skip
def test_columns_that_number_the_rows_are_no_text(write, header, name):
    folder = write({"i.csv": f"{header}\n0,a,A\n1,b,B\n", "e.csv": EVENTS})
    dataset, findings = read(tables(folder, items="i.csv", events="e.csv"))
    assert dataset.items.rows() == [("a", "A"), ("b", "B")]
    (noted,) = (finding for finding in findings if finding.rule == "index-column")
    assert noted.examples == (f"i.csv:2: '{name}': 0",)


def test_an_index_that_does_not_number_the_rows_is_text(write):
    folder = write({"i.csv": "index,item_id,title\n100,a,A\n7,b,B\n", "e.csv": EVENTS})
    dataset, _ = read(tables(folder, items="i.csv", events="e.csv"))
    assert dataset.items.rows() == [("a", "100", "A"), ("b", "7", "B")]
    named = tables(folder, items="i.csv", events="e.csv", text_fields={"n": "index"})
    assert read(named)[0].items.columns == ["item_id", "n"]


def parted(folder, ending, **parts):
    """Write a folder of parts as Spark does."""
    table = folder / f"events{ending}"
    for number, (place, frame) in enumerate(parts.items()):
        part = table / place.replace("__", "=").strip("_") if "__" in place else table
        part.mkdir(parents=True, exist_ok=True)
        write_as(frame, part / f"part-{number:05}-c000{ending}")
    (table / "_SUCCESS").touch()
    (table / f".part-00000{ending}.crc").write_bytes(b"crc!")
    (table / f"part-00009{ending}").touch()
    return table


PARTS = {
    "first": pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "time": [1, 2]}),
    "second": pl.DataFrame({"user_id": ["v", "u"], "item_id": ["x", "a"], "time": [3, 4]}),
}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_folders_of_parts_are_one_table(write, ending):
    folder = write({"i.csv": ITEMS})
    parted(folder, ending, **PARTS)
    dataset, findings = read(tables(folder, items="i.csv", events=f"events{ending}"))
    assert dataset.histories.rows() == [("u", ["a", "b", "a"], [1, 2, 4])]
    unknown = next(finding for finding in findings if finding.rule == "unknown-item")
    line = 2 if ending in (".csv", ".tsv") else 1
    assert unknown.examples == (f"part-00001-c000{ending}:{line}: item x of user v",)
    assert column_names(folder / f"events{ending}") == ["user_id", "item_id", "time"]


def test_zipped_parts_and_parts_without_ending(write):
    folder = write({"i.csv": ITEMS})
    table = folder / "events.csv"
    table.mkdir()
    (table / "part-00000").write_text("user_id,item_id\nu,a\n")
    (table / "part-00001.csv.gz").write_bytes(gzip.compress(b"user_id,item_id\nu,b\n"))
    dataset, _ = read(tables(folder, items="i.csv", events="events.csv", time_column=None))
    assert dataset.histories.rows() == [("u", ["a", "b"], None)]


def test_folders_by_the_values_of_a_column_give_that_column(write):
    folder = write({"i.csv": ITEMS})
    frame = PARTS["first"].drop("time")
    parted(folder, ".parquet", **{"day__2020-01-02": frame, "day__2020-01-01": frame.tail(1)})
    source = tables(folder, items="i.csv", events="events.parquet", time_column="day")
    dataset, _ = read(source)
    assert dataset.histories["times"].to_list() == [[DAY, DAY + 86400, DAY + 86400]]


def test_parts_that_do_not_fit_together_are_refused(write):
    folder = write({"i.csv": ITEMS})
    parted(folder, ".csv", **PARTS)
    (folder / "events.csv" / "part-00002.csv").write_text("w,a,5\n")
    with pytest.raises(DataError, match=r"part-00002\.csv: the columns are w, a, 5.*header"):
        read(tables(folder, items="i.csv", events="events.csv"))
    (folder / "empty.csv").mkdir()
    with pytest.raises(DataError, match="holds no parts"):
        read(tables(folder, items="i.csv", events="empty.csv"))


def test_an_error_carries_what_was_noticed_before(write):
    folder = write({"i.csv": "item_id,title\n1,a,x\n2,b,y\n", "e.csv": EVENTS})
    with pytest.raises(DataError, match="no item is left") as refused:
        read(tables(folder, items="i.csv", events="e.csv"))
    (finding,) = refused.value.findings
    assert (finding.rule, finding.count, finding.examples[0]) == ("bad-row", 2, "i.csv:2: 1,a,x")
    assert "not 2" in finding.message
