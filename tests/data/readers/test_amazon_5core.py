import ast
import csv
import json
import re
from collections import defaultdict
from html import unescape

import pytest

from trsr.config.data import Amazon5CoreData
from trsr.data.readers.registry import read
from trsr.errors import DataError

ITEMS = {
    "1": {
        "title": "Nail",
        "description": "['A nail.', \"It's 2\\\" long\"]",
        "brand": "Acme",
        "categories": "",
    },
    "2": {"title": "Bolt", "description": "", "brand": None, "categories": ["Tools"]},
    "3": {"title": "Nut"},
}
HEAD = "user_id,history_item_title,item_title,history_item_id,item_id\n"


def source(write, items=None, **files):
    text = json.dumps(ITEMS, indent=2) if items is None else items
    content = {"items.json": text} | {f"{name}.csv": HEAD + rows for name, rows in files.items()}
    return Amazon5CoreData(format="amazon_5core", path=write(content))


def test_rows_over_several_files_become_one_user(write, histories_of, counts_of):
    valid = "U,\"['Nail']\",Bolt,[1],2\nV,\"['Nail']\",Nut,[1],3\n"
    test = "U,\"['Nail', 'Bolt']\",Nut,\"[1, 2]\",3\n"
    dataset, findings = read(source(write, valid=valid, test=test))
    assert histories_of(dataset) == {"U": ["1", "2", "3"], "V": ["1", "3"]}
    assert dataset.items.rows() == [
        ("1", "Nail", "Acme", "", "A nail. It's 2\" long"),
        ("2", "Bolt", "", "Tools", ""),
        ("3", "Nut", "", "", ""),
    ]
    assert counts_of(findings) == {"absent-file": 1}


def test_items_are_located_in_their_file(write):
    items = '{\n"1": {\n"title": ""\n},\n"2": {"title": "Bolt"},\n"1": {"title": "x"}\n}'
    _, findings = read(source(write, items=items, test='U,"[]",x,[1],2\n'))
    by_rule = {finding.rule: finding for finding in findings}
    assert by_rule["empty-text"].examples == ("items.json:2: 1",)
    assert by_rule["duplicate-item"].examples == ("items.json:1: '1'",)


def test_bad_rows_are_located(write, histories_of):
    rows = 'U,x,y,[1],2\nU,x,y,"[1, 2",3\n,x,y,[1],2\nU,x,y,"[1, 2]",3\n'
    dataset, findings = read(source(write, test=rows))
    assert histories_of(dataset) == {"U": ["1", "2", "3"]}
    bad = next(finding for finding in findings if finding.rule == "bad-row")
    assert bad.examples == ("test.csv:3: U,[1, 2,3", "test.csv:4: ,[1],2")


@pytest.mark.parametrize("items", ["", "[]", "{}", '{"1": ', "[" * 100_000])
def test_a_broken_item_file_is_refused(write, items):
    with pytest.raises(DataError, match=r"items\.json"):
        read(source(write, items=items, test="U,x,y,[1],2\n"))


def test_entries_that_are_no_object_keep_their_id(write, counts_of):
    items = '{"1": "text", "2": {"title": "\\ud800 half"}, "3": {"title": NaN}}'
    dataset, findings = read(source(write, items=items, test="U,x,y,[1],2\n"))
    assert dataset.items["title"].to_list() == ["", "? half", ""]
    assert counts_of(findings)["bad-row"] == 2


def test_missing_rows_and_columns_are_refused(write):
    with pytest.raises(DataError, match=r"none of the row files train\.csv, valid\.csv, test\.csv"):
        read(source(write))
    folder = write({"test.csv": "user,item_id\nU,1\n"})
    with pytest.raises(
        DataError, match=r"no column 'user_id', 'history_item_id'; the columns are 'user', 'item_id'"
    ):
        read(Amazon5CoreData(format="amazon_5core", path=folder))


def test_real_rows_against_plain_stitching(real_data, histories_of, counts_of):
    folder = real_data("amazon_industrial")
    dataset, findings = read(Amazon5CoreData(format="amazon_5core", path=folder))
    expected = {}
    rows = defaultdict(int)
    for name in ("valid.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                history = [str(item) for item in ast.literal_eval(row["history_item_id"])]
                before = expected.setdefault(row["user_id"], history)
                assert before[-10:] == history
                expected[row["user_id"]] = [*before, row["item_id"]]
                rows[name] += 1
    assert dict(rows) == {"valid.csv": 4532, "test.csv": 4533}
    assert histories_of(dataset) == expected
    assert list(histories_of(dataset)) == list(expected)
    assert max(map(len, expected.values())) == 34
    assert dataset.items.height == 3686
    assert counts_of(findings) == {"absent-file": 1, "html": 90, "mojibake": 1}
    items = json.loads((folder / "items.json").read_text(encoding="utf-8"))
    titles = [unescape(item["title"]).split() for item in items.values()]
    assert [title.split() for title in dataset.items["title"]] == titles
    broken, marked = 0, 0
    for written, text in zip(
        (item["description"] for item in items.values()), dataset.items["description"], strict=True
    ):
        if re.search(r"&#?\w+;|</?[a-zA-Z]", written or ""):
            marked += 1
            assert not re.search(r"</?(br|p|b|li|ul|div)\s*/?>|&(amp|nbsp|quot|lt|gt);", text)
            continue
        try:
            parts = ast.literal_eval(written) if written else []
        except SyntaxError:
            broken += 1
            assert not text.startswith("[")
            assert set(re.findall(r"[A-Za-z]{2,}", text)) == set(re.findall(r"[A-Za-z]{2,}", written))
        else:
            assert text.split() == " ".join(parts).split()
    assert 0 < broken < 400
    assert 0 < marked < 400


def test_null_words_leave_users_and_written_lists(write, histories_of, counts_of):
    items = json.dumps(ITEMS | {"1": {"title": "Nail", "categories": "['None', 'Tools']", "brand": "N/A"}})
    test = "U,[],[],[1],2\nnan,[],[],[1],2\n"
    dataset, findings = read(source(write, items=items, test=test))
    assert dataset.items.rows()[0] == ("1", "Nail", "", "Tools", "")
    assert histories_of(dataset) == {"U": ["1", "2"]}
    assert (counts_of(findings)["null-word"], counts_of(findings)["bad-row"]) == (2, 1)
