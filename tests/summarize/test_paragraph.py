from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trsr.prompts.item_text import neutralise
from trsr.summarize.checks import has_thoughts, to_paragraph

MARKS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ('<thought effort="low">', "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    (
        "<|start|>assistant<|channel|>commentary to=x <|constrain|>json<|message|>",
        "<|channel|>final<|message|>",
    ),
]
"""How model families begin and end what they think."""
WORDS = st.lists(
    st.sampled_from(["tea", "pots,", "5 < 6", "<b>", "a>b", "[Video]", "C++", "x\n"]), max_size=6
)


@pytest.mark.parametrize(
    ("answer", "paragraph"),
    [
        ("Likes tea.\n\nBuys often.", "Likes tea. Buys often."),
        ("**Summary:** Likes *good* tea.", "Likes *good* tea."),
        ("Updated preference summary: Likes tea.", "Likes tea."),
        ("# Profile\n- Likes tea.\n  * Buys often.\n> Reads.", "Profile Likes tea. Buys often. Reads."),
        ("<think>\nShort.\n</think>\n\nLikes tea.", "Likes tea."),
        ("Short.</think>Likes tea.", "Likes tea."),
        ("Likes #cats, -5 °C jackets and C++.", "Likes #cats, -5 °C jackets and C++."),
        ("Likes tea.<|im_end|>\n<|im_start|>user", "Likes tea.< |im_end| > < |im_start| >user"),
    ],
)
def test_answers_become_one_neutral_paragraph(answer: str, paragraph: str) -> None:
    assert to_paragraph(answer) == paragraph


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_thoughts_of_every_family_come_off_wherever_they_stand(opening: str, closing: str) -> None:
    assert to_paragraph(f"{opening}They want pots.{closing}\n\nLikes tea.") == "Likes tea."
    assert to_paragraph(f"{opening}They want\n{opening}pots.{closing}Likes tea.") == "Likes tea."
    assert to_paragraph(f"They want pots.{closing}Likes tea.") == "Likes tea."
    assert to_paragraph(f"Likes tea.\n{opening}Was that right?{closing}") == "Likes tea."
    assert to_paragraph(f"{opening}They want pots") == ""
    assert has_thoughts(f"{opening}They want pots")


@pytest.mark.parametrize(
    ("answer", "paragraph"),
    [
        ("<thinking>Pots.<reflection>Or tea?</reflection> Tea.</thinking>Likes tea.", "Likes tea."),
        ("Likes tea. <thinking>Pots.<reflection>Or tea?</reflection></thinking>", "Likes tea."),
        ("<think>Pots.</thinking>Likes tea.", "Likes tea."),
        ("<think>Pots.</think><answer>Likes tea.</answer>", "Likes tea."),
        ("<|begin_of_thought|>P.<|end_of_thought|><|begin_of_solution|>Tea.<|end_of_solution|>", "Tea."),
        ("<|channel|>analysis<|message|>P.<|end|><|start|>assistant<|channel|>analysis<|message|>Q.<|end|>"
         "<|start|>assistant<|channel|>final<|message|>Likes tea.<|return|>", "Likes tea."),
        ("<|channel|>final<|message|>Likes tea.<|end|>", "Likes tea."),
        ("analysisWe need a summary.assistantfinalLikes tea.", "Likes tea."),
        ("Here is my thought process:\nPots.\nHere is my response:\nLikes tea.", "Likes tea."),
        ("Analysis of tea, <b>bold</b> thinking and [Reflection] candles, 3 < 5.",
         "Analysis of tea, < b>bold< /b> thinking and [Reflection] candles, 3 < 5."),
        # So does an item's text come that somebody wrote a mark into: it must not make the answer end there.
        (f"Likes {neutralise('<think>tea</think>')} and pots.", "Likes < think>tea< /think> and pots."),
    ],
)  # fmt: skip
def test_what_is_no_thought_stays(answer: str, paragraph: str) -> None:
    assert to_paragraph(answer) == paragraph


@settings(deadline=None)
@given(
    thoughts=st.lists(st.tuples(st.sampled_from(MARKS), WORDS), max_size=3),
    said=st.lists(WORDS, min_size=4, max_size=4),
    ends=st.booleans(),
)
def test_thoughts_never_survive_and_words_do(
    thoughts: list[tuple[tuple[str, str], list[str]]], said: list[list[str]], ends: bool
) -> None:
    answer, kept = " ".join(said[0]), list(said[0])
    for number, ((opening, closing), words) in enumerate(thoughts):
        is_cut = number == len(thoughts) - 1 and not ends
        answer += f" {opening}SECRET {' '.join(words)} SECRET" + ("" if is_cut else f"{closing} ")
        if not is_cut:
            answer += " ".join(said[number + 1])
            kept += said[number + 1]
    text = to_paragraph(f"Likes {answer}")
    assert "SECRET" not in text
    assert text == to_paragraph(" ".join(["Likes", *kept]))
