from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.hf.tokenization import pad_right, token_batches
from trsr.hf.trainer import shuffled_batches

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=80)


@given(lengths=LENGTHS, size=st.integers(1, 9), multiple=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_row_stands_in_one_batch_of_at_most_the_size(
    lengths: list[int], size: int, multiple: int, seed: int
) -> None:
    batches = shuffled_batches(np.array(lengths), size, np.random.default_rng(seed), multiple)
    rows = [int(row) for batch in batches for row in batch]
    assert set(rows) == set(range(len(lengths)))
    assert len(rows) == max(len(lengths), len(batches)), (
        "a row comes round again only to fill the last batches"
    )
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) % multiple == 0


def test_batches_hold_rows_of_like_length_and_change_from_epoch_to_epoch() -> None:
    lengths = np.random.default_rng(0).integers(10, 500, size=640)
    generator = np.random.default_rng(1)
    first, second = (shuffled_batches(lengths, 8, generator) for _ in range(2))
    waste = np.mean([np.ptp(lengths[batch]) for batch in first])
    assert waste < 40, "a batch of random rows spans about 380"
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in second]


@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_token_batches_keep_the_budget_with_their_padding(lengths: list[int], budget: int) -> None:
    batches = token_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[row] for row in batch) <= budget or len(batch) == 1


def test_no_rows_no_batches() -> None:
    assert token_batches([], 10) == []


@pytest.mark.parametrize("padding", [0, 7])
def test_rows_are_padded_on_the_right(padding: int) -> None:
    assert pad_right([[1, 2, 3], [4]], padding).tolist() == [[1, 2, 3], [4, padding, padding]]
