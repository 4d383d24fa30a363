import asyncio

import pytest

from trsr.config import load
from trsr.config.summary import Summarization
from trsr.errors import ConfigError
from trsr.records import Block, Item, Summary
from trsr.summarize.paradigms import open_paradigm, recurrent


def blocks(count: int) -> tuple[Block, ...]:
    return tuple(Block((Item(str(index), {}),), index) for index in range(count))


class Recorder:
    """Writes down what was asked, so that the whole way can be read off the final text, and counts waves.

    Nobody is answered before everybody who can ask has asked.
    """

    name = "recorder"

    def __init__(self):
        self.waves = []
        self._waiting = []

    async def describe(self, block, *, user=""):
        return await self._answer(str(block.index))

    async def update(self, summary, block, *, user=""):
        return await self._answer(f"{summary.text}>{block.index}")

    async def combine(self, summaries, *, user=""):
        return await self._answer(f"({' '.join(summary.text for summary in summaries)})")

    async def _answer(self, text):
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._start)
        given = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        await given
        return Summary(text)

    def _start(self):
        asyncio.get_running_loop().call_soon(self._give)

    def _give(self):
        self.waves.append(len(self._waiting))
        waiting, self._waiting = self._waiting, []
        for given in waiting:
            given.set_result(None)


def run(name: str, count: int, fan_in: int = 5) -> tuple[str, list[int]]:
    """Return the final text and the size of every wave."""
    recorder = Recorder()
    paradigm = open_paradigm(name, Summarization(fan_in=fan_in))
    return asyncio.run(paradigm(recorder, blocks(count))).text, recorder.waves


@pytest.mark.parametrize(
    ("name", "fan_in", "count", "final", "waves"),
    [
        ("none", 5, 3, "", []),
        ("recurrent", 5, 0, "", []),
        ("recurrent", 5, 1, "0", [1]),
        ("recurrent", 5, 4, "0>1>2>3", [1, 1, 1, 1]),
        ("hierarchical", 5, 0, "", []),
        ("hierarchical", 5, 1, "0", [1]),
        ("hierarchical", 5, 2, "(0 1)", [2, 1]),
        ("hierarchical", 5, 5, "(0 1 2 3 4)", [5, 1]),
        ("hierarchical", 2, 4, "((0 1) (2 3))", [4, 2, 1]),
        ("hierarchical", 2, 5, "(((0 1) (2 3)) 4)", [5, 2, 1, 1]),
        ("hierarchical", 3, 7, "((0 1 2) (3 4 5) 6)", [7, 2, 1]),
    ],
)
def test_what_is_asked_and_in_which_waves(name, fan_in, count, final, waves):
    assert run(name, count, fan_in) == (final, waves)


@pytest.mark.parametrize("count", range(1, 6))
def test_calls_are_those_of_the_paper(count):
    assert sum(run("recurrent", count)[1]) == count
    assert sum(run("hierarchical", count)[1]) == (count + 1 if count > 1 else 1)


@pytest.mark.parametrize("count", range(31))
@pytest.mark.parametrize("fan_in", [2, 3, 5])
def test_every_block_is_described_once_and_no_wave_is_empty(count, fan_in):
    final, waves = run("hierarchical", count, fan_in)
    assert [int(index) for index in final.replace("(", "").replace(")", "").split()] == list(range(count))
    assert all(waves)


def test_fan_in_of_one_whose_levels_would_never_end_is_refused():
    with pytest.raises(ConfigError, match="fan_in"):
        load(overrides={"summary.fan_in": 1})


def test_a_paradigm_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="there is no paradigm 'recurent'; take one of recurrent, hierarch"):
        open_paradigm("recurent", Summarization())


async def newest_alone(writer, blocks, settings):
    return await writer.describe(blocks[-1])


def test_anybodys_own_function_is_a_paradigm(monkeypatch):
    monkeypatch.setattr("trsr.summarize.paradigms.newest_alone", newest_alone, raising=False)
    assert run("trsr.summarize.paradigms:newest_alone", 4) == ("3", [1])
    assert open_paradigm("recurrent", Summarization()).func is recurrent
