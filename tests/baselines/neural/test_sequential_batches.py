import numpy as np

from trsr.baselines.neural.training import by_length, pad, prefixes


def test_every_example_comes_once_and_batches_differ_between_epochs() -> None:
    lengths = np.arange(1000, dtype=np.int64) % 17
    draw = np.random.default_rng(0)
    first, second = (list(by_length(lengths, 16, draw)) for _ in range(2))
    assert sorted(np.concatenate(first).tolist()) == list(range(1000))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_examples_of_a_batch_have_like_lengths() -> None:
    lengths = np.random.default_rng(1).integers(1, 50, 512)
    spread = [np.ptp(lengths[batch]) for batch in by_length(lengths, 16, np.random.default_rng(0))]
    assert max(spread) <= 5


def test_nothing_makes_no_batch() -> None:
    assert list(by_length(np.empty(0, np.int64), 16, np.random.default_rng(0))) == []
    assert prefixes([]) == []


def test_empty_sequences_are_padding_alone() -> None:
    empty, one = np.empty(0, np.int32), np.array([7], np.int32)
    assert pad([empty, one], 9).tolist() == [[9], [7]]
    assert pad([empty], 9).shape == (1, 0)
    assert pad([], 9).shape == (0, 0)
