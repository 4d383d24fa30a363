from functools import partial

import pytest

from trsr.errors import ConfigError
from trsr.records import Block, Item, Summary
from trsr.summarize.paradigms import hierarchical, none, recurrent
from trsr.summarize.writer import Combine, Describe, Update


def blocks(count: int) -> tuple[Block, ...]:
    return tuple(Block((Item(str(index), {}),), index) for index in range(count))


def answer(request) -> Summary:
    """Write down what was asked, so that the whole fold can be read off the final text."""
    match request:
        case Describe(block):
            return Summary(str(block.index))
        case Update(summary, block):
            return Summary(f"{summary.text}>{block.index}")
        case Combine(summaries):
            return Summary(f"({' '.join(summary.text for summary in summaries)})")


def run(fold) -> tuple[str, list[int]]:
    """Return the final text and the size of every wave."""
    waves: list[int] = []
    try:
        requests = next(fold)
        while True:
            waves.append(len(requests))
            requests = fold.send([answer(request) for request in requests])
    except StopIteration as stop:
        return stop.value.text, waves


@pytest.mark.parametrize(
    ("paradigm", "count", "final", "waves"),
    [
        (none, 3, "", []),
        (recurrent, 0, "", []),
        (recurrent, 1, "0", [1]),
        (recurrent, 4, "0>1>2>3", [1, 1, 1, 1]),
        (partial(hierarchical, fan_in=5), 0, "", []),
        (partial(hierarchical, fan_in=5), 1, "0", [1]),
        (partial(hierarchical, fan_in=5), 2, "(0 1)", [2, 1]),
        (partial(hierarchical, fan_in=5), 5, "(0 1 2 3 4)", [5, 1]),
        (partial(hierarchical, fan_in=2), 4, "((0 1) (2 3))", [4, 2, 1]),
        (partial(hierarchical, fan_in=2), 5, "(((0 1) (2 3)) 4)", [5, 2, 1, 1]),
        (partial(hierarchical, fan_in=3), 7, "((0 1 2) (3 4 5) 6)", [7, 2, 1]),
    ],
)
def test_what_is_asked_and_in_which_waves(paradigm, count, final, waves):
    assert run(paradigm(blocks(count))) == (final, waves)


@pytest.mark.parametrize("count", range(1, 6))
def test_calls_are_those_of_the_paper(count):
    assert sum(run(recurrent(blocks(count)))[1]) == count
    assert sum(run(hierarchical(blocks(count), 5))[1]) == (count + 1 if count > 1 else 1)


@pytest.mark.parametrize("count", range(31))
@pytest.mark.parametrize("fan_in", [2, 3, 5])
def test_every_block_is_described_once_and_no_wave_is_empty(count, fan_in):
    final, waves = run(hierarchical(blocks(count), fan_in))
    assert [int(index) for index in final.replace("(", "").replace(")", "").split()] == list(range(count))
    assert all(waves)


def test_fan_in_of_one_is_refused():
    with pytest.raises(ConfigError, match="fan_in must be at least 2, got 1"):
        next(hierarchical(blocks(3), 1))
