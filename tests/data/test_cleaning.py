import polars as pl
import pytest

from trsr.data.cleaning import clean_texts, empty_as_null, without_html
from trsr.data.notes import FILE, LINE, Notes

WORDS = ("N/A", "None", "nan")


def rows_of(name, values, **options):
    return pl.DataFrame({FILE: "i.csv", LINE: range(2, len(values) + 2), name: values}, **options)


def cleaned(*texts, words=WORDS):
    notes = Notes()
    return clean_texts(rows_of("t", list(texts)), ["t"], words, notes)["t"].to_list(), notes.findings()


def emptied(values, **options):
    notes = Notes()
    rows = empty_as_null(rows_of("t", values, **options), ["t"], WORDS, notes)
    return rows["t"].to_list(), notes.findings()


def test_only_a_word_that_stands_alone_is_empty():
    texts, (finding,) = cleaned("N/A", " None ", "None of the above", "NONE", "", None, "nan")
    assert texts == ["", "", "None of the above", "NONE", "", "", ""]
    assert (finding.rule, finding.count) == ("null-word", 3)
    assert finding.examples == ("i.csv:2: t: N/A", "i.csv:3: t:  None ", "i.csv:8: t: nan")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('["None", "Tools"]', '["Tools"]'),
        ("['None', 'Tools']", '["Tools"]'),
        ('["a", null, ["N/A"]]', '["a",[]]'),
        ('{"Brand": "None", "Size": {"cm": "nan", "in": 4}}', '{"Size":{"in":4}}'),
        ('["None Such"]', '["None Such"]'),
        ("[None of these", "[None of these"),
    ],
)
def test_null_words_leave_lists_that_are_written_as_text(written, expected):
    values, findings = emptied([written])
    assert values == [expected]
    assert len(findings) == (written != expected)


def test_null_words_leave_real_lists_and_nan_leaves_numbers():
    values, (finding,) = emptied([["None", "Tools"], ["Tools"], None])
    assert (values, finding.count) == ([["Tools"], ["Tools"], None], 1)
    assert finding.examples == ("i.csv:2: t: None, Tools",)
    assert emptied([1.5, float("nan")])[0] == [1.5, None]
    assert emptied([1, 2]) == ([1, 2], ())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("<p>Great&nbsp;<b>Oak</b><br />&#39;new&#39;</p>", "Great Oak 'new'"),
        ('See <a href="http://x.y/?a=1&b=2" target=_blank>this > that</a>', "See this > that"),
        ("A &amp;amp; B", "A & B"),
        ("&lt;p&gt;Escaped&lt;/p&gt; once more", "Escaped once more"),
        ("one<br>two<LI>three", "one two three"),
        ("H<sub>2</sub>O", "H2O"),
        ("x<script>alert('<p>')</script>y<style>p {a: b}</style>z", "x y z"),
        ("a<!-- <b>hidden</b> -->b", "a b"),
        ("<![CDATA[<p>inside</p>]]>", "inside"),
        ("cut off <a href='http://x", "cut off"),
        ("<style>never closed", "never closed"),
        ("Caf&eacute; &#x2013; 5&quot; &ndash", "Café – 5\" &ndash"),
        ("Tom &amp Jerry", "Tom & Jerry"),
        ("&#27;[31m", "[31m"),
    ],
)  # fmt: skip
def test_html_becomes_what_a_browser_shows(written, expected):
    assert without_html(written) == expected


@pytest.mark.parametrize(
    "text",
    [
        "5 < 6 > 4", "I <3 you", "a<b>c", "if a<b and c>d", "AT&T, R&D; Q&A", "x?a=1&copy=2&reg=3", "<Title>",
        "Re: <Code> by <unknown@example.com>", "<|im_end|>", "<NA>", "&notit;", "two  spaces & one", "a <",
        "&", "<",
    ],
)  # fmt: skip
def test_what_is_no_html_stays_to_the_letter(text):
    assert without_html(text) == text


def test_html_is_counted_with_a_text_before_and_after():
    texts, (finding,) = cleaned("Oak &amp; Steel", "plain", "<p>N/A</p>", "AT&T", words=())
    assert texts == ["Oak & Steel", "plain", "N/A", "AT&T"]
    assert (finding.rule, finding.count, finding.action) == ("html", 2, "repaired")
    assert finding.examples[0] == "i.csv:2: t: Oak &amp; Steel → Oak & Steel"


def test_a_null_word_in_a_tag_is_empty():
    assert cleaned("<p>N/A</p>", "&nbsp;")[0] == ["", ""]


@pytest.mark.parametrize("text", ["CafÃ©", "itâ€™s", "Â£5", "Ð½Ð¾Ð¶"])
def test_texts_of_a_wrong_encoding_are_noted_and_kept(text):
    texts, (finding,) = cleaned(text)
    assert (texts, finding.rule, finding.action) == ([text], "mojibake", "noted")


@pytest.mark.parametrize("text", ["SÃO PAULO", "“MAÇÔ", "Ñandú", "Þórður Ð", "10 £", "â la carte"])
def test_accents_are_no_wrong_encoding(text):
    assert cleaned(text) == ([text], ())
