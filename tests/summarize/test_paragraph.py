from __future__ import annotations

import pytest

from trsr.summarize.paragraph import to_paragraph


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
