"""The side-by-side benchmark runs, and its counts and pages are right."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import shared_prefix
from arithmetic import separate, shared
from measuring import Cost
from pages import BEGIN, END, write_page
from shared_prefix import Case, Row
from transformers import Qwen2Config


@pytest.fixture(scope="module", autouse=True)
def drawing() -> None:
    """Draw: the page's figures are files of their own."""


def test_quick_run_measures_both_kinds_of_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["shared_prefix.py", "--quick"])
    shared_prefix.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["score tiny 40 + 5 x 8", "train tiny 40 + 3 x 8"]
    assert all("limit" in line for line in lines)


def test_operations_by_hand() -> None:
    config = Qwen2Config(
        hidden_size=4, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1
    )
    # Per token: queries and output 4x4 each, keys and values 4x2 each, three MLP products of 4x6; each
    # weight is one multiplication and one addition. Per pair: four products and sums of width 4.
    token, pair = 2 * (16 + 16 + 8 + 8 + 72), 16
    # Two prompts of 3 tokens: 6 tokens, 1 + 2 + 3 pairs each.
    assert separate(config, prefix=2, suffix=1, candidates=2) == 6 * token + 12 * pair
    # Prefix 2 tokens and 3 pairs, then each candidate's one token on 2 + 1 keys.
    assert shared(config, prefix=2, suffix=1, candidates=2) == 4 * token + 9 * pair


def test_page_keeps_what_people_wrote(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nlast words\n")
    costs = (Cost(11.0, 12.0, 90.0, 1), Cost(3.9, 4.0, 30.0, 3), Cost(0.4, 0.5, 10.0, 3))
    write_page([Row(Case("score", "small", 300, 40, 21), *costs, limit=10.0)], tmp_path, "a machine")
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("last words\n")
    assert "old" not in text
    row = next(line for line in text.splitlines() if line.startswith("| small"))
    # 12 / 0.5, 4 / 0.5, and 8x of 10x.
    assert "**24.0x** | **8.0x** | 10.0x | 0.80 | 90, 30, 10 |" in row
    assert (tmp_path / "performance-attention.svg").stat().st_size > 1000
    assert (tmp_path / "performance-speed.svg").stat().st_size > 1000
