from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trsr.ranking.shared_prefix.layout import Fold, Layout

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=6).map(tuple)


@given(LENGTHS)
def test_folding_puts_each_run_in_its_own_row_and_unfolding_restores_the_order(
    lengths: tuple[int, ...],
) -> None:
    fold = Fold(lengths, CPU)
    row = torch.arange(2 * sum(lengths), dtype=torch.float).view(1, 2, -1, 1)
    batch = fold.fold(row)
    assert batch.shape == (len(lengths), 2, max(lengths), 1)
    start = 0
    for number, length in enumerate(lengths):
        assert torch.equal(batch[number, :, :length], row[0, :, start : start + length])
        # Fill is the run's own last token.
        assert (batch[number, :, length:] == row[0, :, start + length - 1, None]).all()
        start += length
    assert torch.equal(fold.unfold(batch), row)
    assert fold.is_token.sum() == sum(lengths)
    assert fold.ends.tolist() == [sum(lengths[: number + 1]) - 1 for number in range(len(lengths))]


def test_layout_of_two_users() -> None:
    layout = Layout.of([(2, [3, 1]), (0, [2])], CPU)
    #                                       prefix  cand. 1  2  |  cand.
    assert layout.positions.tolist() == [0, 1, 2, 3, 4, 2, 0, 1]
    assert layout.answers.tolist() == [4, 5, 7]
    assert layout.tokens == 8
    assert layout.longest == 5
    assert [(part.shared, part.suffixes) for part in layout.segments] == [
        (slice(0, 2), slice(2, 6)),
        (slice(6, 6), slice(6, 8)),
    ]


def test_layout_of_a_held_prefix() -> None:
    layout = Layout.of([(3, [2, 1])], CPU, is_held=True)
    assert layout.positions.tolist() == [3, 4, 3]
    assert layout.answers.tolist() == [1, 2]
    assert layout.tokens == 3
    assert layout.longest == 5
    assert layout.segments[0].shared == slice(0, 0)
