import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.files.json_lines import first_keys, read_json_lines
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError


def test_texts_numbers_lists_and_gaps(write):
    lines = ['{"a": "x", "b": 1.5}', "", '{"a": null, "c": ["p", "q"]}', '{"c": {"k": "v"}}']
    path = write({"t.jsonl": "\n".join(lines)}) / "t.jsonl"
    table = read_json_lines(path, Notes())
    assert table.columns == [FILE, LINE, "a", "b", "c"]
    assert table.drop(FILE).rows() == [
        (1, "x", "1.5", None),
        (3, None, None, '["p","q"]'),
        (4, None, None, '{"k":"v"}'),
    ]
    assert first_keys(path) == ["a", "b", "c"]


def test_lines_that_are_no_object_are_left_out_and_located(write):
    path = write({"t.jsonl": '{"a": 1}\n{"a": \n[1]\n"text"\n{"a": 2}\n'}) / "t.jsonl"
    notes = Notes()
    assert read_json_lines(path, notes, ["a"])["a"].to_list() == ["1", "2"]
    (finding,) = notes.findings()
    assert (finding.rule, finding.count) == ("bad-row", 3)
    assert finding.examples[0] == 't.jsonl:2: {"a": '


@pytest.mark.parametrize("content", ["", "\n", "[]\n", "id,title\n1,a\n"])
def test_files_without_any_object_are_refused(write, content):
    path = write({"t.jsonl": content}) / "t.jsonl"
    with pytest.raises(DataError, match="one object a line"):
        read_json_lines(path, Notes())


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), min_size=1, max_size=6
).filter(lambda name: not ("'" in name and '"' in name))


@pytest.mark.parametrize("key", ["a\\b", "it's 5\""])
def test_keys_that_cannot_be_addressed_are_refused(write, key):
    path = write({"t.jsonl": json.dumps({key: 1}) + "\n"}) / "t.jsonl"
    with pytest.raises(DataError, match="rename the key"):
        read_json_lines(path, Notes())


@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=4))
def test_any_key_and_any_text_is_read_back(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    table = read_json_lines(path, Notes(), list(row))
    assert table.drop(FILE, LINE).row(0, named=True) == row
