import pytest
from small_comparison import Finished


@pytest.fixture
def blocks(finished: Finished) -> list[list[str]]:
    return [block.splitlines() for block in finished.said[-1].strip().split("\n\n")]


def test_every_kind_of_candidates_has_a_block_of_its_own(blocks: list[list[str]]) -> None:
    users, *whats = zip(*(block[0].split(", ", 1) for block in blocks[:4]), strict=True)
    assert len(set(users)) == 1
    assert [what.split(":")[0] for what in whats[0]] == [
        "20 uniform negatives",
        "20 popularity negatives",
        "whole catalogue, 80 items",
        "two stages",
    ]


def test_rows_fall_by_the_primary_measure_and_columns_are_aligned(blocks: list[list[str]]) -> None:
    for block in blocks[:4]:
        head, rows = block[1], block[2:]
        end = head.index("NDCG@10") + len("NDCG@10")
        values = [float(row[:end].split()[-1]) for row in rows]
        assert values == sorted(values, reverse=True)
        assert all(row[end] == " " for row in rows)
        assert sum("best" in row.split() for row in rows) == 1


def test_choices_are_told_with_their_measure(blocks: list[list[str]]) -> None:
    assert blocks[4][:2] == ["Notes", "  20 uniform negatives a target, frozen with seed 0."]
    assert blocks[5][0] == "Chosen on validation users"
    assert any(line.startswith("  form of the language model: ") for line in blocks[5])
    assert any("Recall@20 (catalogue)" in line for line in blocks[5])
