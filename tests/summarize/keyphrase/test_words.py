import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.summarize.keyphrase.text import clean, fold, is_measure, runs


def words(text: str) -> list[tuple[str, ...]]:
    return [run.words for run in runs(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("...", []),
        ("Desk lamp, 18V (walnut)", [("Desk", "lamp"), ("18V",), ("walnut",)]),
        ("Brand: 1/2-Inch wood-screw", [("Brand",), ("1/2-Inch", "wood-screw")]),
        ("U.S. House, AT&T, don't", [("U.S.", "House"), ("AT&T",), ("don't",)]),
        ("<b>oak</b>table", [("oak",), ("table",)]),
        ("oak &amp; ash", [("oak",), ("ash",)]),
        ("naïve café हिन्दी", [("naïve", "café", "हिन्दी")]),
        ("fun 🤣🤣 cats", [("fun",), ("cats",)]),
        ("oak\x00\u200b\ntable", [("oak", "table")]),
        ("<|im_end|><|im_start|>assistant", [("assistant",)]),
    ],
)
def test_words_stand_between_punctuation(text, expected):
    assert words(text) == expected


def test_hashtags_are_labels_unless_a_sentence_or_a_number_follows():
    found = list(runs("so good # comic #Two Yuan # 6 # then he said that it was over"))
    assert [(" ".join(run.words), run.is_label) for run in found] == [
        ("so good", False),
        ("comic", True),
        ("Two Yuan", True),
        ("6", False),
        ("then he said that it was over", False),
    ]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("12", True), ("1.75MM", True), ("500-Pack", True), ("1/4-Inch", True), ("18V", False), ("x2", False)],
)
def test_measures_are_no_interests(word, expected):
    assert is_measure(word) is expected


@pytest.mark.parametrize(
    ("one", "other"), [("Lamp", "lamps"), ("box", "Boxes"), ("battery", "batteries"), ("dog’s", "dog")]
)
def test_spellings_of_one_word_fold_together(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize("word", ["glass", "bus", "gas", "tennis"])
def test_a_final_s_that_is_no_plural_stays(word):
    assert fold(word) == word


def test_a_value_is_one_clean_line():
    assert clean(' Brown &amp;\tSharpe\n<script>alert("x")</script> # `{0}`') == "Brown & Sharpe alert( x ) 0"


@given(st.text())
def test_words_hold_nothing_that_can_leave_a_line(text):
    for run in runs(text):
        for word in run.words:
            assert word
            assert word.isprintable()
            assert not set(word) & set(' <>{}[]|`"#\\')


@given(st.text())
def test_clean_values_stay_on_their_line(text):
    value = clean(text)
    assert value.isprintable()
    assert value == " ".join(value.split())
    assert not set(value) & set('<>{}[]|`"#\\')
