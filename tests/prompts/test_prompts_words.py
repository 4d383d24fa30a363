import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.words import joined, segments, spaced, usual_width, words

SENTENCES = [
    ["軽量", "植木鉢", "園芸", "用品"],
    ["無線", "スピーカー", "音響", "機器"],
    ["无线", "蓝牙", "耳机"],
    ["เครื่อง", "ชง", "กาแฟ", "สำหรับ", "บ้าน"],
    ["ກາເຟ", "ຮ້ອນ"],
    ["កាហ្វេ", "ក្តៅ"],
    ["ကော်ဖီ", "စက်"],
]


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF) | st.sampled_from("жλ한국어 -_'")))
def test_texts_with_spaces_are_cut_as_ever(text: str) -> None:
    assert words(text) == re.findall(r"(?u)\b\w\w+\b", text)
    assert segments(text) == [text]
    assert spaced(text) == text


@pytest.mark.parametrize("sentence", SENTENCES)
def test_words_are_found_with_spaces_and_without(sentence: list[str]) -> None:
    without = "".join(sentence)
    assert segments(without) == sentence
    assert spaced(without) == " ".join(sentence)
    assert joined(sentence) == without
    assert [word for word in words(without) if len(word) > 1] == words(" ".join(sentence))


@given(st.text(max_size=40) | st.lists(st.sampled_from(sum(SENTENCES, ["PC", " ", "、", "ー"]))).map("".join))
def test_segments_lose_nothing(text: str) -> None:
    assert "".join(segments(text)) == text
    assert all(segments(text)) or text == ""


def test_katakana_latin_words_and_numbers_stay_whole() -> None:
    assert words("ワイヤレスイヤホンBluetooth5台所ラーメン") == [
        "ワイヤレスイヤホン",
        "Bluetooth5",
        "台所",
        "ラーメン",
    ]


def test_ideographs_that_are_no_words_are_taken_in_pairs() -> None:
    assert words("羽绒服") == ["羽绒", "绒服"]
    assert words("静、音") == words("静 音") == []


def test_vowel_signs_do_not_cut_words() -> None:
    assert words("हिन्दी किताब। দোকান") == ["हिन्दी", "किताब", "দোকান"]


def test_wide_and_half_letters_are_the_usual_ones() -> None:
    assert words("ＵＳＢ用ｹｰﾌﾞﾙ１２") == words("USB用ケーブル12") == ["USB", "ケーブル", "12"]
    assert usual_width("＜b＞ ½ ™") == "＜b＞ ½ ™", "no sign is made that means something in a prompt"


def test_budgets_count_the_letters_of_scripts_without_spaces() -> None:
    assert ApproximateTokens().count("PC用ケーブル") == 6
    assert ApproximateTokens().cut("園芸用品、台所", 3) == "園芸用"
