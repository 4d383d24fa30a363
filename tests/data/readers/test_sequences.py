import csv
from html import unescape

import pytest

from trsr.config.data import MicroLensData, SequenceData
from trsr.data.readers.registry import detect, read
from trsr.errors import DataError
from trsr.records import ITEMS


def read_files(write, titles='item,title\r\n1,"a, b"\r\n2,\r\n3,c\r\n', pairs="u\t1 2\nv\t3\n"):
    return read(MicroLensData(format="microlens", path=write({"titles.csv": titles, "pairs.tsv": pairs})))


def test_order_of_ids_is_time_and_empty_titles_are_noted(write, histories_of, counts_of):
    dataset, findings = read_files(write)
    assert histories_of(dataset) == {"u": ["1", "2"], "v": ["3"]}
    assert dataset.items.rows() == [("1", "a, b"), ("2", ""), ("3", "c")]
    assert counts_of(findings) == {"empty-text": 1}


def test_a_user_on_several_rows_stays_one_user(write, histories_of, counts_of):
    dataset, findings = read_files(write, pairs="u\t1\nv\t3\nu\t2\nw\t\nx\n")
    assert histories_of(dataset) == {"u": ["1", "2"], "v": ["3"]}
    assert counts_of(findings) == {"empty-text": 1, "further-row": 1, "empty-history": 1, "bad-row": 1}


def test_wrong_columns_are_named(write):
    with pytest.raises(DataError, match=r"titles\.csv: no column 'item'; the columns are 'id', 'title'"):
        read_files(write, titles="id,title\n1,a\n")
    with pytest.raises(DataError, match="no item is left"):
        read_files(write, titles="item,title\n")


def test_real_data_against_plain_reading(real_data, histories_of, counts_of):
    folder = real_data("microlens")
    dataset, findings = read(MicroLensData(format="microlens", path=folder))
    with (folder / "titles.csv").open(encoding="utf-8", newline="") as stream:
        titles = [(item, unescape(title)) for item, title in csv.reader(stream)][1:]
    assert dataset.items.rows() == titles
    pairs = [line.split("\t") for line in (folder / "pairs.tsv").read_text().splitlines()]
    assert histories_of(dataset) == {user: ids.split() for user, ids in pairs}
    lengths = dataset.histories[ITEMS].list.len()
    assert (dataset.histories.height, dataset.items.height) == (39949, 19220)
    assert int(((lengths >= 11) & (lengths <= 26)).sum()) == 3763
    assert counts_of(findings) == {"html": 1}


TABLE = "id,title\na 1,Axe\nb,Bowl\nc,Cup\n"


def sequences(write, text, table=TABLE, **settings):
    folder = write({"sequences.txt": text, "items.csv": table})
    return SequenceData(
        format="sequences",
        sequences=folder / "sequences.txt",
        items=folder / "items.csv",
        item_id="id",
        **settings,
    )


@pytest.mark.parametrize(
    "text",
    [
        "u b c b\nv c\n",
        "u\tb\tc\tb\nv\tc\n",
        "u,b, c,b\nv,c\n",
        "u\tb c b\n\n v\tc \r\n",
        "u\tb,c,b\nv\tc\n",
        "u,b c b\nv,c\n",
        "u   b  c b\nv c\n",
        "u\t[b, c, b]\nv\t['c']\n",
        'u,"b,c,b"\nv,c\n',
    ],
)
def test_every_usual_way_to_part_ids_is_told_by_the_lines(write, histories_of, text):
    dataset, findings = read(sequences(write, text))
    assert histories_of(dataset) == {"u": ["b", "c", "b"], "v": ["c"]}
    assert findings == ()
    assert dataset.histories["times"].null_count() == 2


@pytest.mark.parametrize(
    ("text", "setting", "value", "expected"),
    [
        ("v\tb,c\nu\ta 1,b\n", "separator", "comma", {"v": ["b", "c"], "u": ["a 1", "b"]}),
        ("v\tb\nu\ta 1\tb\n", "separator", "tab", {"v": ["b"], "u": ["a 1", "b"]}),
        ("v,b\nu u,c,b\n", "user_separator", "comma", {"v": ["b"], "u u": ["c", "b"]}),
        ("v c,b\nu c,b\n", "user_separator", "space", {"v": ["c", "b"], "u": ["c", "b"]}),
    ],
)
def test_what_the_lines_leave_open_is_refused_with_the_setting(
    write, histories_of, text, setting, value, expected
):
    with pytest.raises(DataError, match=rf"sequences\.txt:\d: can't tell.*set data\.{setting} to one of"):
        read(sequences(write, text))
    assert histories_of(read(sequences(write, text, **{setting: value}))[0]) == expected


def test_lines_that_are_divided_otherwise_and_users_without_items_are_told(write, histories_of):
    text = "u\tb c\nv b c\nw\nx\t\nu\tc\n"
    dataset, findings = read(sequences(write, text))
    assert histories_of(dataset) == {"u": ["b", "c", "c"]}
    told = {finding.rule: (finding.count, finding.examples[0]) for finding in findings}
    assert told == {
        "bad-row": (1, "sequences.txt:2: v b c"),
        "further-row": (1, "sequences.txt:5: u"),
        "empty-history": (2, "sequences.txt:3: w"),
    }


def test_a_list_that_holds_no_ids_is_left_out_and_told(write, histories_of):
    dataset, findings = read(sequences(write, "u\t[b, c]\nv\t[[b]]\n"))
    assert histories_of(dataset) == {"u": ["b", "c"]}
    assert [(finding.rule, finding.examples) for finding in findings] == [
        ("bad-row", ("sequences.txt:2: v·[[b]]",))
    ]


def test_gaps_and_unknown_items_are_counted(write, histories_of, counts_of):
    dataset, findings = read(sequences(write, "u,b,,c,\nv,c,z\n"))
    assert histories_of(dataset) == {"u": ["b", "c"], "v": ["c"]}
    assert counts_of(findings) == {"missing-id": 1, "unknown-item": 1, "unknown-id": 1}


def test_sequences_without_rows_or_items_are_refused(write):
    with pytest.raises(DataError, match=r"sequences\.txt: the file is empty"):
        read(sequences(write, "\n \n"))
    (write({}) / "items.csv").unlink()
    with pytest.raises(DataError, match=r"can't tell the table of items beside it.*data\.items"):
        detect(write({"sequences.txt": "u b\n"}))


@pytest.mark.parametrize(
    ("table", "field", "texts"),
    [
        ('{\n "a": ["x", "y"],\n "b": [1]\n}\n', "values", ["x, y", "1"]),
        ('{"a": {"title": "X"}, "b": {"title": "Y"}}', "title", ["X", "Y"]),
    ],
)
def test_a_table_may_be_an_object_of_ids(write, histories_of, table, field, texts):
    folder = write({"sequential_data.txt": "u b a\n", "item_terms.json": table})
    dataset, findings = read(detect(folder))
    assert (dataset.fields, dataset.items[field].to_list()) == ((field,), texts)
    assert histories_of(dataset) == {"u": ["b", "a"]}
    assert "by-id" in {finding.rule for finding in findings}


def test_real_beauty_against_plain_counting(real_data, histories_of):
    folder = real_data("beauty")
    dataset, _ = read(detect(folder))
    lines = (folder / "sequential_data.txt").read_text(encoding="utf-8").splitlines()
    assert histories_of(dataset) == {line.split()[0]: line.split()[1:] for line in lines}
    assert (dataset.histories.height, dataset.items.height) == (22363, 12101)
