import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.delimited import header_of, read_delimited
from trsr.data.notes import FILE, Notes
from trsr.errors import DataError


def rows_of(folder, text, separator=",", **options):
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    notes = Notes()
    return read_delimited(path, separator, notes, **options).drop(FILE).rows(), notes.findings()


def test_quotes_separators_and_line_ends_inside_fields(tmp_path):
    text = 'id,title\r\n1,"a, ""b"""\r\n2,"two\r\nlines"\r\n\r\n3,\r\n'
    rows, findings = rows_of(tmp_path, text)
    assert rows == [(2, "1", 'a, "b"'), (3, "2", "two\nlines"), (6, "3", "")]
    assert findings == ()


def test_a_quote_inside_an_unquoted_field_is_plain_text(tmp_path):
    rows, findings = rows_of(tmp_path, 'id,title\n1,TV 40" wide\n2,"ok"\n')
    assert rows == [(2, "1", 'TV 40" wide'), (3, "2", "ok")]
    assert findings == ()


def test_a_quote_that_is_never_closed_costs_no_other_row(tmp_path):
    rows, findings = rows_of(tmp_path, 'id,title\n1,"never closed\n2,plain\n3,"fine, really"\n4,end\n')
    assert rows == [(2, "1", '"never closed'), (3, "2", "plain"), (4, "3", "fine, really"), (5, "4", "end")]
    assert [(f.rule, f.count, f.examples) for f in findings] == [
        ("stray-quote", 1, ('t.csv:2: 1,"never closed',))
    ]


def test_rows_with_a_wrong_number_of_fields_are_left_out_and_located(tmp_path):
    rows, findings = rows_of(tmp_path, "id,title\n1,a\n2,b,c\n3\n4,d\n")
    assert rows == [(2, "1", "a"), (5, "4", "d")]
    assert [(f.rule, f.count, f.action, f.examples) for f in findings] == [
        ("bad-row", 2, "dropped", ("t.csv:3: 2,b,c", "t.csv:4: 3"))
    ]


def test_without_header_and_without_quotes(tmp_path):
    rows, _ = rows_of(tmp_path, '1\t"odd\n2\teven"\n', "\t", columns=("id", "title"), quoted=False)
    assert rows == [(1, "1", '"odd'), (2, "2", 'even"')]


def test_header_only_gives_no_rows(tmp_path):
    assert rows_of(tmp_path, "id,title\n") == ([], ())


@pytest.mark.parametrize("text", ["", "\n\n", "\r\n", "\ufeff"])
def test_empty_files_are_refused(tmp_path, text):
    with pytest.raises(DataError, match="the file is empty"):
        rows_of(tmp_path, text)


def test_repeated_column_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="'id' more than once"):
        rows_of(tmp_path, "id,id\n1,2\n")


def test_header_of_reads_quoted_names(tmp_path):
    (tmp_path / "t.csv").write_text('"id","a, b" \n1,2\n')
    assert header_of(tmp_path / "t.csv", ",") == ["id", "a, b"]


FIELD = st.text(st.sampled_from("ab,\"\n\t é'"), max_size=6)


@given(st.lists(st.tuples(FIELD, FIELD, FIELD), min_size=1, max_size=8), st.sampled_from(",\t"))
def test_whatever_the_csv_module_writes_is_read_back(tmp_path_factory, rows, separator):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(("x", "y", "z"))
    writer.writerows(rows)
    read, findings = rows_of(tmp_path_factory.mktemp("csv"), buffer.getvalue(), separator)
    assert [row[1:] for row in read] == rows
    assert findings == ()


@given(st.binary(max_size=80), st.sampled_from(",\t"), st.booleans())
def test_any_bytes_end_in_a_table_or_a_data_error(tmp_path_factory, content, separator, quoted):
    folder = tmp_path_factory.mktemp("csv")
    try:
        rows, findings = rows_of(folder, b"x,y\n" + content, separator, quoted=quoted)
    except DataError:
        return
    lines = content.count(b"\n") + 2
    assert all(2 <= row[0] <= lines for row in rows)
    assert all(finding.count > 0 for finding in findings)


@given(st.text(st.sampled_from('a",\n'), max_size=30))
def test_no_line_is_lost_in_silence(tmp_path_factory, body):
    """Every line with something on it is in a row, or in a row that was noted."""
    rows, findings = rows_of(tmp_path_factory.mktemp("csv"), f"x,y\n{body}\n")
    dropped = sum(finding.count for finding in findings if finding.rule == "bad-row")
    covered = {row[0] + step for row in rows for step in range(1 + "".join(row[1:]).count("\n"))}
    uncovered = [n for n, line in enumerate(body.split("\n"), start=2) if line and n not in covered]
    assert dropped > 0 if uncovered else dropped == 0


def test_quotes_escaped_by_a_backslash_are_found_out_and_shown(tmp_path):
    text = 'id,title,brand\n1,"A 10\\" blade, steel",X\n2,"The \\"best\\" one",X\n3,plain,Y\n'
    text += '4,"two\nlines \\"x\\"",Z\n'
    rows, (finding,) = rows_of(tmp_path, text)
    assert rows == [
        (2, "1", 'A 10" blade, steel', "X"),
        (3, "2", 'The "best" one', "X"),
        (4, "3", "plain", "Y"),
        (5, "4", 'two\nlines "x"', "Z"),
    ]
    assert (finding.rule, finding.count, finding.action) == ("backslash-escape", 3, "repaired")
    assert finding.examples[0] == 't.csv:2: 1,"A 10\\" blade, steel",X'


def test_backslashes_before_quotes_end_fields_where_quotes_are_doubled(tmp_path):
    rows, findings = rows_of(tmp_path, 'id,title\n1,"C:\\"\n2,"say ""hi"""\n3,"a\\b"\n')
    assert rows == [(2, "1", "C:\\"), (3, "2", 'say "hi"'), (4, "3", "a\\b")]
    assert findings == ()


def test_escaped_backslashes_end_fields_where_quotes_are_escaped(tmp_path):
    rows, _ = rows_of(tmp_path, 'id,title\n1,"dir\\\\"\n2,"a \\"b\\" c"\n3,"p\\q, \\"r\\""\n4,5\\" disk\n')
    assert [row[2] for row in rows] == ["dir\\", 'a "b" c', 'p\\q, "r"', '5" disk']


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=6))
def test_whatever_the_csv_module_escapes_is_read_back_or_told(tmp_path_factory, rows):
    """Where escaped quotes leave fields torn in one way, they are read in the other, or noted."""
    buffer = io.StringIO()
    writer = csv.writer(
        buffer, doublequote=False, escapechar="\\", lineterminator="\n", quoting=csv.QUOTE_ALL
    )
    writer.writerow(("x", "y"))
    writer.writerows(rows)
    read, findings = rows_of(tmp_path_factory.mktemp("csv"), buffer.getvalue())
    assert findings or [row[1:] for row in read] == rows


def test_text_behind_a_closing_quote_is_noted(tmp_path):
    rows, (finding,) = rows_of(tmp_path, 'id,title\n1,"a"b\n2,"c"\n')
    assert rows == [(2, "1", "ab"), (3, "2", "c")]
    assert (finding.rule, finding.action, finding.examples) == ("odd-quote", "noted", ('t.csv:2: 1,"a"b',))


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_than_the_ending_says_is_found_out(tmp_path, separator):
    text = 'id,title,price\n1,"A, B",3\n2,C,4\n'.replace(",", separator).replace(f"A{separator}", "A,")
    rows, (finding,) = rows_of(tmp_path, text)
    assert rows == [(2, "1", "A, B", "3"), (3, "2", "C", "4")]
    assert (finding.rule, finding.action) == ("separator", "noted")
    assert header_of(tmp_path / "t.csv", ",") == ["id", "title", "price"]


def test_one_column_stays_one_column(tmp_path):
    assert rows_of(tmp_path, "name\na;b\nc\n") == ([(2, "a;b"), (3, "c")], ())
    assert rows_of(tmp_path, "a;b\nx\ny\nz\n")[0] == [(2, "x"), (3, "y"), (4, "z")]


def test_columns_without_a_name_are_called_by_their_place(tmp_path):
    (tmp_path / "t.csv").write_text(",id, \n0,a,\n")
    assert header_of(tmp_path / "t.csv", ",") == ["Unnamed: 0", "id", "Unnamed: 2"]


def test_where_both_readings_fit_the_lines_are_shown(tmp_path):
    rows, (finding,) = rows_of(tmp_path, 'id,title\n1,"\\"\n,a"\n')
    assert rows == [(2, "1", "\\"), (3, "", 'a"')]
    assert (finding.rule, finding.action, finding.examples) == (
        "backslash-escape",
        "noted",
        ('t.csv:2: 1,"\\"',),
    )
