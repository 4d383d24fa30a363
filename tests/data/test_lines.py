import gzip

import pytest

from trsr.data.notes import LINE, Notes
from trsr.data.text_files import TEXT, line_blocks, read_lines
from trsr.errors import DataError


def test_line_ends_mark_and_nul_bytes_are_mended_and_noted(write):
    notes = Notes()
    path = write({"a.csv": b"\xef\xbb\xbfid,title\r\n1,a\x00b\r\n\r\n2,c"}) / "a.csv"
    lines = read_lines(path, notes)
    assert lines.select(LINE, TEXT).rows() == [(1, "id,title"), (2, "1,ab"), (3, ""), (4, "2,c")]
    mark, nul = notes.findings()
    assert (mark.rule, mark.count) == ("byte-order-mark", 1)
    assert (nul.rule, nul.count, nul.examples) == ("nul-byte", 1, ("a.csv:2: 1,a·b",))


def read_back(write, content, **options):
    notes = Notes()
    lines = read_lines(write({"a.csv": content}) / "a.csv", notes, **options)
    return lines[TEXT].to_list(), notes.findings()


def test_a_few_wrong_bytes_in_utf8_are_replaced_and_located(write):
    lines, (finding,) = read_back(write, "1,Übergrößenträger für Männer\n2,éééééé\n3,".encode() + b"na\xefve")
    assert lines[2] == "3,na\ufffdve"
    assert (finding.rule, finding.count, finding.action) == ("bad-encoding", 1, "repaired")
    assert finding.examples == ("a.csv:3: 3,na\ufffdve",)


@pytest.mark.parametrize(
    "text",
    [
        "1,plain\n2,Crème brûlée\n3,naïve",
        "1,Weiß & Söhne\n2,Messer für Gemüse",
        "1,Calções e botões\n2,Niño – 5 €\n3,Men’s “best” ®",
        "1,Col·lecció nº 5\n2,10µm 5°C 10×20 ±3 «Été»",
        "1,Rødgrød på træ\n2,Blå hallmatta",
    ],
)
def test_western_windows_is_found_out_and_shown(write, text):
    lines, (finding,) = read_back(write, text.encode("cp1252"))
    assert lines == text.split("\n")
    assert (finding.rule, finding.action) == ("encoding", "repaired")
    first = next(number for number, line in enumerate(lines, start=1) if not line.isascii())
    assert finding.examples[0] == f"a.csv:{first}: {lines[first - 1]}"
    assert "read as cp1252" in finding.message


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("1,Nóż duży\n2,Łyżka żółta", "cp1250"),
        ("1,Dřevěná lžíce\n2,Žlutá židle", "cp1250"),
        ("1,Erős kő\n2,Fűzfa", "cp1250"),
        ("1,Ahşap kaşık\n2,Sarı güneş", "cp1254"),
        ("1,Нож кухонный", "cp1251"),
        ("1,Нож кухонный", "koi8_r"),
        ("1,Μαχαίρι κουζίνας", "cp1253"),
        ("1,キッチンナイフ 大きい", "shift_jis"),
        ("1,厨房刀 大号", "gb18030"),
        ("1,주방 칼", "euc_kr"),
        ("1,Crème brûlée", "cp850"),
        ("1,Crème brûlée", "mac_roman"),
    ],
)
def test_other_encodings_are_refused_until_they_are_set(write, text, encoding):
    with pytest.raises(DataError, match=r"a\.csv:1: not UTF-8.*Set data\.encoding"):
        read_back(write, text.encode(encoding))
    assert read_back(write, text.encode(encoding), encoding=encoding) == (text.split("\n"), ())


def test_lines_of_two_encodings_are_each_read_by_their_own(write):
    lines, (finding,) = read_back(write, "1,Grün\n2,naïve\n".encode() + "3,Öl\n4,Thé".encode("cp1252"))
    assert lines == ["1,Grün", "2,naïve", "3,Öl", "4,Thé"]
    assert finding.examples == ("a.csv:3: 3,Öl", "a.csv:4: 4,Thé")


def test_a_refusal_shows_how_the_line_would_read(write):
    with pytest.raises(DataError, match="read as cp1251 \\('Нож кухонный большой'\\)"):
        read_back(write, "Нож кухонный большой\nМиска для салата".encode("cp1251"))


def test_bytes_that_a_given_encoding_lacks_are_counted(write):
    lines, (finding,) = read_back(write, b"a\n\x81b", encoding="cp1252")
    assert lines == ["a", "\ufffdb"]
    assert (finding.rule, finding.count, finding.examples) == ("bad-encoding", 1, ("a.csv:2: \ufffdb",))
    assert "not cp1252" in finding.message
    lines, (finding,) = read_back(write, "Нож".encode("cp1251"), encoding="utf-8")
    assert (lines, finding.rule) == (["\ufffd" * 3], "bad-encoding")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_utf16_and_utf32_are_read_and_noted(write, encoding):
    text = "1,Łódź\r\n2,大きい\n" + "3,plain\n" * 9
    lines, findings = read_back(write, text.encode(encoding))
    assert lines[:2] == ["1,Łódź", "2,大きい"]
    assert [(finding.rule, finding.action) for finding in findings] == [("encoding", "noted")]


@pytest.mark.parametrize("block_bytes", [1, 4, 50])
def test_the_encoding_is_the_same_for_every_block(write, block_bytes):
    path = write({"a.csv": "1,é\n2,plain\n3,naïve\n4,ü\n".encode("cp1252")}) / "a.csv"
    blocks = [block[TEXT].to_list() for block in line_blocks(path, Notes(), block_bytes)]
    assert [line for block in blocks for line in block if line] == ["1,é", "2,plain", "3,naïve", "4,ü"]


def test_marks_of_files_put_together_are_removed(write):
    lines, (finding,) = read_back(write, b"\xef\xbb\xbfa\n\xef\xbb\xbfb")
    assert (lines, finding.rule, finding.count) == (["a", "b"], "byte-order-mark", 2)


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
