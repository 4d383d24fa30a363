from __future__ import annotations

import random

import pytest

from trsr.llm.endpoint import PromptCounts


def test_honest_counts_of_any_ratio_pass() -> None:
    """A tokenizer with 0.7 to 4 tokens for one of ours, and a tenth of noise: never called a cut."""
    stream = random.Random(0)
    for ratio in (0.7, 0.9, 1.3, 4.0):
        counts = PromptCounts()
        for _ in range(2000):
            estimate = stream.randint(64, 4000)
            said = counts.find_cut(estimate, round(estimate * ratio * stream.uniform(0.9, 1.1)) + 12)
            assert said == "", (ratio, estimate)


@pytest.mark.parametrize("context", [256, 512, 1024])
def test_a_cut_below_sixty_percent_is_seen_at_the_first_call(context: int) -> None:
    assert f"counts {context:,} tokens in a prompt of about 2,000" in PromptCounts().find_cut(2000, context)


def test_a_count_that_does_not_grow_is_seen_at_the_third_call() -> None:
    counts = PromptCounts()
    assert [counts.find_cut(estimate, 2048) for estimate in (2200, 2300)] == ["", ""]
    assert counts.find_cut(2600, 2048) == "the server counts 2,048 tokens in prompts of unlike length"


def test_calibration_sees_cuts_where_tokens_are_many() -> None:
    counts = PromptCounts()
    for estimate in range(100, 200, 10):
        assert counts.find_cut(estimate, 4 * estimate) == ""
    assert "1,024 tokens in a prompt of about 2,000" in counts.find_cut(500, 1024)


def test_short_prompts_and_missing_counts_show_nothing() -> None:
    counts = PromptCounts()
    assert counts.find_cut(20, 5) == ""
    assert counts.find_cut(5000, 0) == ""
    assert counts.ratio == 1.0
