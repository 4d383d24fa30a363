import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.json_lines import first_keys, read_json_lines
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


def read_back(write, content):
    notes = Notes()
    table = read_json_lines(write({"t.jsonl": content}) / "t.jsonl", notes)
    return table.drop(FILE).rows(), notes.findings()


def test_numbers_that_are_not_finite_are_null_and_counted(write):
    lines = ['{"a": 1, "p": NaN}', '{"a": 2, "p": -Infinity}', '{"a": 3, "p": 1e400}', '{"a": 4, "p": 2.5}']
    rows, (finding,) = read_back(write, "\n".join(lines))
    assert rows == [(1, "1", None), (2, "2", None), (3, "3", None), (4, "4", "2.5")]
    assert (finding.rule, finding.count, finding.action) == ("mended-json", 3, "repaired")
    assert finding.examples[0] == 't.jsonl:1: {"a": 1, "p": NaN}'


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{'a': \"it's\", 'b': [u'x', None, True]}", ("it's", '["x",null,true]')),
        ("{'a': 'x', 'b': nan}", ("x", None)),
        ("{'a': 'x', 'b': -inf,}", ("x", None)),
        ('{"a": "x,}", "b": [1, 2,],}', ("x,}", "[1,2]")),
        ('{"a": "x", "b": 1},', ("x", "1")),
        ('{"a": "caf\\u00e9 \\/ \\ud83d\\ude00", "b": NaN}', ("café / 😀", None)),
    ],
)
def test_lines_that_are_nearly_json_are_read_and_counted(write, line, expected):
    rows, (finding,) = read_back(write, line + '\n{"a": "y", "b": 2}\n')
    assert rows == [(1, *expected), (2, "y", "2")]
    assert (finding.rule, finding.count, finding.action) == ("mended-json", 1, "repaired")


def test_several_objects_on_a_line_are_all_read(write):
    rows, (finding,) = read_back(write, '{"a": 1}{"a": 2}\n{"a": 3}\n{"a": 4}\ufeff{"a": 5}\n')
    assert rows == [(1, "1"), (1, "2"), (2, "3"), (3, "4"), (3, "5")]
    assert (finding.rule, finding.count) == ("mended-json", 2)


def test_the_first_of_repeated_keys_counts_and_is_noted(write):
    rows, (finding,) = read_back(write, '{"a": 1, "a": 2}\n{"a": "\\"x\\": 3"}\n')
    assert rows == [(1, "1"), (2, '"x": 3')]
    assert (finding.count, finding.examples) == (1, ('t.jsonl:1: {"a": 1, "a": 2}',))


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('[{"a": 1}, {"a": 2}]', (1, 1)),
        ('[\n  {"a": 1},\n  {"a":\n    2}\n]\n', (2, 3)),
        ('[{"a": 1},\n{"a": 2}]', (1, 2)),
        ('{\n  "a": 1\n}\n{\n  "a": 2\n}\n', (1, 4)),
    ],
)
def test_arrays_and_objects_over_several_lines_are_read_with_their_lines(write, content, lines):
    rows, (finding,) = read_back(write, content)
    assert rows == [(lines[0], "1"), (lines[1], "2")]
    assert (finding.rule, finding.action) == ("mended-json", "noted")
    assert first_keys(write({"t.jsonl": content}) / "t.jsonl") == ["a"]


def test_a_broken_array_is_refused_with_the_line(write):
    with pytest.raises(DataError, match=r"t\.jsonl:3: no JSON \(Expecting ':'.*got '\{\"a\" 3\}'"):
        read_back(write, '[{"a": 1},\n{"a": 2},\n{"a" 3}\n]')


def test_what_python_would_read_otherwise_is_left_out(write):
    rows, (finding,) = read_back(write, "{'a': 'x \\/ y'}\n{'a': f(1)}\n{\"a\": 1} or\n{\"a\": 2}\n")
    assert rows == [(4, "2")]
    assert (finding.rule, finding.count, finding.action) == ("bad-row", 3, "dropped")
