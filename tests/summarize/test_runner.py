import asyncio
import io

import polars as pl
import pytest

from trsr.config import Config
from trsr.config.summary import Summarization
from trsr.errors import ConfigError, WriterError
from trsr.progress import Progress
from trsr.records import Block, Item, Summary, Usage
from trsr.summarize import summarizer as runner
from trsr.summarize.cost import Budget
from trsr.summarize.paradigms import open_paradigm
from trsr.summarize.summarizer import summarize
from trsr.summarize.writer import Unwritten, open_writer


def paradigm(name: str, **settings):
    return open_paradigm(name, Summarization(**settings))


RECURRENT = paradigm("recurrent")


class Scribe:
    """Writes down what it is asked; never about a forbidden item."""

    name = "scribe"

    def __init__(self, forbidden=None):
        self.forbidden = forbidden
        self.asked = []

    async def describe(self, block, *, user=""):
        return await self._write(user, block.items[0].id, block.items[0].id)

    async def update(self, summary, block, *, user=""):
        return await self._write(user, block.items[0].id, f"{summary.text}>{block.items[0].id}")

    async def combine(self, summaries, *, user=""):
        return await self._write(user, "", f"({' '.join(summary.text for summary in summaries)})")

    async def _write(self, user, item, text):
        self.asked.append((user, item))
        if item == self.forbidden:
            raise Unwritten("it is forbidden", Usage(2, 0, 20, 4))
        await asyncio.sleep(0)
        return Summary(text, usage=Usage(1, 0, 10, 2))


def user(name: str, count: int) -> tuple[str, tuple[Block, ...]]:
    return name, tuple(Block((Item(f"{name}{index}", {}),), index) for index in range(count))


def texts(summaries):
    return [summary.text for summary in summaries]


def test_recurrent_users_stop_by_themselves_and_keep_their_order():
    scribe = Scribe()
    first, second, third = summarize([user("a", 1), user("b", 3), user("c", 2)], RECURRENT, scribe)
    assert [first.final.text, second.final.text, third.final.text] == ["a0", "b0>b1>b2", "c0>c1"]
    assert texts(second.steps) == ["b0", "b0>b1", "b0>b1>b2"]
    assert second.usage == Usage(3, 0, 30, 6)
    assert [first.user_id, second.user_id, third.user_id] == ["a", "b", "c"]
    assert sorted(scribe.asked) == [(item[0], item) for item in ("a0", "b0", "b1", "b2", "c0", "c1")]


def test_hierarchical_describes_all_blocks_of_all_users_before_it_combines():
    scribe = Scribe()
    first, second = summarize([user("a", 3), user("b", 2)], paradigm("hierarchical", fan_in=2), scribe)
    assert sorted(item for _, item in scribe.asked[:5]) == ["a0", "a1", "a2", "b0", "b1"]
    assert [item for _, item in scribe.asked[5:]] == ["", "", ""]
    assert first.final.text == "((a0 a1) a2)"
    assert second.final.text == "(b0 b1)"
    assert texts(first.steps) == ["a0", "a1", "a2"]
    assert first.usage.calls == 5


def test_users_without_history_cost_nothing():
    scribe = Scribe()
    [nobody] = summarize([user("a", 0)], RECURRENT, scribe)
    assert (nobody.final, nobody.steps, nobody.usage) == (Summary(""), (), Usage())
    assert summarize([], RECURRENT, scribe) == []
    [silent] = summarize([user("a", 3)], paradigm("none"), scribe)
    assert (silent.final.text, silent.steps) == ("", ())
    assert scribe.asked == []


def test_a_user_goes_on_without_waiting_for_the_others():
    class Slow(Scribe):
        async def _write(self, user, item, text):
            summary = await super()._write(user, item, text)
            while item == "a0" and ("b", "b2") not in self.asked:
                await asyncio.sleep(0)
            return summary

    slow = Slow()
    summarize([user("a", 2), user("b", 3)], RECURRENT, slow)
    assert slow.asked == [("a", "a0"), ("b", "b0"), ("b", "b1"), ("b", "b2"), ("a", "a1")]


def test_a_user_who_fails_is_marked_and_the_others_go_on():
    first, second = summarize([user("a", 3), user("b", 3)], RECURRENT, Scribe(forbidden="a1"))
    assert (first.failed, first.final.text, texts(first.steps)) == ("it is forbidden", "", ["a0"])
    assert first.usage == Usage(3, 0, 30, 6)
    assert (second.failed, second.final.text) == ("", "b0>b1>b2")


def test_a_failed_block_fails_a_hierarchical_user_once_and_counts_all_that_was_paid():
    scribe = Scribe(forbidden="a1")
    [failed] = summarize([user("a", 3)], paradigm("hierarchical", fan_in=2), scribe)
    assert (failed.failed, failed.final.text, texts(failed.steps)) == ("it is forbidden", "", ["a0"])
    assert failed.usage == Usage(4, 0, 40, 8)
    assert len(scribe.asked) == 3


def test_an_error_that_ends_the_run_lets_no_call_go_on_behind_it():
    class Broken(Scribe):
        def __init__(self):
            super().__init__()
            self.let_go = []

        async def describe(self, block, *, user=""):
            if block.index == 1:
                message = "the model is gone"
                raise WriterError(message)
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                self.let_go.append(block.items[0].id)
                raise

    broken = Broken()
    with pytest.raises(WriterError, match="the model is gone"):
        summarize([user("a", 3), user("b", 1)], paradigm("hierarchical"), broken)
    assert sorted(broken.let_go) == ["a0", "a2", "b0"]


def test_an_error_that_comes_when_a_user_has_failed_already_ends_the_run():
    class Broken(Scribe):
        async def describe(self, block, *, user=""):
            if block.index == 0:
                raise Unwritten("it is forbidden")
            await asyncio.sleep(0)
            message = "the model is gone"
            raise WriterError(message)

    with pytest.raises(WriterError, match="the model is gone"):
        summarize([user("a", 2)], paradigm("hierarchical"), Broken())


def test_only_so_many_users_are_under_way_at_once(monkeypatch):
    class Counting(Scribe):
        now = most = 0

        async def _write(self, user, item, text):
            self.now += 1
            self.most = max(self.most, self.now)
            summary = await super()._write(user, item, text)
            self.now -= 1
            return summary

    monkeypatch.setattr(runner, "_UNDER_WAY", 3)
    counting = Counting()
    written = summarize([user(f"u{n}", n % 4) for n in range(20)], RECURRENT, counting)
    assert counting.most == 3
    assert [one.user_id for one in written] == [f"u{n}" for n in range(20)]
    assert [len(one.steps) for one in written] == [n % 4 for n in range(20)]


def test_summaries_are_written_where_a_loop_runs_already_as_in_a_notebook():
    async def cell():
        return summarize([user("a", 2)], RECURRENT, Scribe())

    [written] = asyncio.run(cell())
    assert written.final.text == "a0>a1"


def test_progress_counts_each_block_once_and_those_of_who_failed(monkeypatch):
    told = io.StringIO()
    monkeypatch.setattr("sys.stderr", told)
    times = iter(range(0, 10_000, 60))

    def slow(*args, **more):
        return Progress(*args, **more, now=lambda: next(times))

    monkeypatch.setattr(runner, "Progress", slow)
    summarize([user("a", 3), user("b", 3)], RECURRENT, Scribe(forbidden="a1"))
    assert "summaries: 6 of 6 blocks, ended after" in told.getvalue()
    assert told.getvalue().splitlines()[-1].endswith(", failed 1")


class Titles:
    """An own writer, as somebody would write it."""

    name = "titles"

    def __init__(self, *, config, items, budget):
        self.count = items.height

    async def describe(self, block, *, user=""):
        return Summary(f"{block.items[0].id} of {self.count}")


def test_anybodys_own_class_is_a_writer(monkeypatch):
    monkeypatch.setattr("trsr.summarize.writer.Titles", Titles, raising=False)
    config = Config()
    own = config.summary.writer.model_copy(update={"kind": "trsr.summarize.writer:Titles"})
    config = config.model_copy(update={"summary": config.summary.model_copy(update={"writer": own})})
    writer = open_writer(config, pl.DataFrame({"item_id": ["1", "2"]}), Budget())
    [written] = summarize([user("a", 1)], RECURRENT, writer)
    assert written.final.text == "a0 of 2"


def test_a_writer_that_nobody_knows_is_refused():
    config = Config()
    own = config.summary.writer.model_copy(update={"kind": "keyfrase"})
    config = config.model_copy(update={"summary": config.summary.model_copy(update={"writer": own})})
    with pytest.raises(ConfigError, match="there is no writer 'keyfrase'; take one of keyphrase, local, end"):
        open_writer(config, pl.DataFrame(), Budget())
