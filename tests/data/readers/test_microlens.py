import csv
from html import unescape

import pytest

from trsr.config.data import MicroLensData
from trsr.data.readers.microlens import read_microlens
from trsr.errors import DataError
from trsr.records import ITEMS


def read_files(write, titles='item,title\r\n1,"a, b"\r\n2,\r\n3,c\r\n', pairs="u\t1 2\nv\t3\n"):
    return read_microlens(
        MicroLensData(format="microlens", path=write({"titles.csv": titles, "pairs.tsv": pairs}))
    )


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
    dataset, findings = read_microlens(MicroLensData(format="microlens", path=folder))
    with (folder / "titles.csv").open(encoding="utf-8", newline="") as stream:
        titles = [(item, unescape(title)) for item, title in csv.reader(stream)][1:]
    assert dataset.items.rows() == titles
    pairs = [line.split("\t") for line in (folder / "pairs.tsv").read_text().splitlines()]
    assert histories_of(dataset) == {user: ids.split() for user, ids in pairs}
    lengths = dataset.histories[ITEMS].list.len()
    assert (dataset.histories.height, dataset.items.height) == (39949, 19220)
    assert int(((lengths >= 11) & (lengths <= 26)).sum()) == 3763
    assert counts_of(findings) == {"html": 1}
