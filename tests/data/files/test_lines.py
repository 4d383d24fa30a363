import gzip

import pytest

from trsr.data.files.lines import TEXT, line_blocks, read_lines
from trsr.data.notes import LINE, Notes
from trsr.errors import DataError


def test_line_ends_mark_and_nul_bytes_are_mended_and_noted(write):
    notes = Notes()
    path = write({"a.csv": b"\xef\xbb\xbfid,title\r\n1,a\x00b\r\n\r\n2,c"}) / "a.csv"
    lines = read_lines(path, notes)
    assert lines.select(LINE, TEXT).rows() == [(1, "id,title"), (2, "1,ab"), (3, ""), (4, "2,c")]
    mark, nul = notes.findings()
    assert (mark.rule, mark.count) == ("byte-order-mark", 1)
    assert (nul.rule, nul.count, nul.examples) == ("nul-byte", 1, ("a.csv:2: 1,a·b",))


def test_bytes_that_are_not_utf8_are_replaced_and_located(write):
    notes = Notes()
    path = write({"a.csv": "1,plain\n2,café\n3,naïve".encode("latin-1")}) / "a.csv"
    assert read_lines(path, notes)[TEXT].to_list() == ["1,plain", "2,caf\ufffd", "3,na\ufffdve"]
    (finding,) = notes.findings()
    assert (finding.rule, finding.count, finding.action) == ("bad-encoding", 2, "repaired")
    assert finding.examples == ("a.csv:2: 2,caf\ufffd", "a.csv:3: 3,na\ufffdve")


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 100])
def test_blocks_of_any_size_give_the_same_lines_and_numbers(write, block_bytes):
    path = write({"a.txt": "ä\n\nlonger line\nend\n"}) / "a.txt"
    rows = [
        row for block in line_blocks(path, Notes(), block_bytes) for row in block.select(LINE, TEXT).rows()
    ]
    assert rows[:4] == [(1, "ä"), (2, ""), (3, "longer line"), (4, "end")]
    assert all(text == "" for _, text in rows[4:])


def test_gzip_is_known_by_its_content(write):
    path = write({"a.jsonl": gzip.compress(b"x\ny")}) / "a.jsonl"
    assert read_lines(path, Notes())[TEXT].to_list() == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"x\n" * 5000, mtime=0)[:-12], "cut short or damaged"),
        (b"\x1f\x8b garbage", "cut short or damaged"),
        ("id".encode("utf-16"), "UTF-16"),
    ],
)
def test_what_cannot_be_read_is_refused(write, content, words):
    path = write({"a.csv.gz": content}) / "a.csv.gz"
    with pytest.raises(DataError, match=words):
        read_lines(path, Notes())


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_lines(tmp_path / "none.csv", Notes())
    with pytest.raises(DataError, match="can't be read"):
        read_lines(tmp_path, Notes())
