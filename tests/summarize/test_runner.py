from functools import partial

import pytest

from trsr.config.summary import Summarization
from trsr.records import Block, Item, Summary, Usage
from trsr.summarize.paradigms import hierarchical, none, recurrent
from trsr.summarize.runner import make_paradigm, summarize
from trsr.summarize.writer import Unwritten, write_in_batches


class Scribe:
    """Writes down what it is asked, and remembers its batches."""

    name = "scribe"

    def __init__(self):
        self.batches: list[tuple[str, int]] = []

    def write(self, requests):
        return write_in_batches(self, requests)

    def describe(self, requests):
        return self._write("describe", [request.block.items[0].id for request in requests])

    def update(self, requests):
        texts = [f"{request.summary.text}>{request.block.items[0].id}" for request in requests]
        return self._write("update", texts)

    def combine(self, requests):
        joined = [" ".join(summary.text for summary in request.summaries) for request in requests]
        return self._write("combine", [f"({text})" for text in joined])

    def _write(self, verb, texts):
        self.batches.append((verb, len(texts)))
        return [Summary(text, usage=Usage(1, 0, 10, 2)) for text in texts]


def user(name: str, count: int) -> tuple[str, tuple[Block, ...]]:
    return name, tuple(Block((Item(f"{name}{index}", {}),), index) for index in range(count))


def texts(summaries):
    return [summary.text for summary in summaries]


def test_recurrent_users_advance_together_and_stop_by_themselves():
    scribe = Scribe()
    first, second, third = summarize([user("a", 1), user("b", 3), user("c", 2)], recurrent, scribe)
    assert scribe.batches == [("describe", 3), ("update", 2), ("update", 1)]
    assert [first.final.text, second.final.text, third.final.text] == ["a0", "b0>b1>b2", "c0>c1"]
    assert texts(second.steps) == ["b0", "b0>b1", "b0>b1>b2"]
    assert second.usage == Usage(3, 0, 30, 6)
    assert [first.user_id, second.user_id, third.user_id] == ["a", "b", "c"]


def test_hierarchical_describes_all_blocks_of_all_users_in_one_batch():
    scribe = Scribe()
    paradigm = partial(hierarchical, fan_in=2)
    first, second = summarize([user("a", 3), user("b", 2)], paradigm, scribe)
    assert scribe.batches == [("describe", 5), ("combine", 2), ("combine", 1)]
    assert first.final.text == "((a0 a1) a2)"
    assert second.final.text == "(b0 b1)"
    assert texts(first.steps) == ["a0", "a1", "a2"]
    assert first.usage.calls == 5


def test_a_wave_of_several_verbs_makes_one_batch_a_verb():
    def mixed(blocks):
        return recurrent(blocks) if blocks[0].items[0].id == "a0" else hierarchical(blocks, 5)

    scribe = Scribe()
    first, second = summarize([user("a", 2), user("b", 2)], mixed, scribe)
    assert scribe.batches == [("describe", 3), ("update", 1), ("combine", 1)]
    assert [first.final.text, second.final.text] == ["a0>a1", "(b0 b1)"]


def test_users_without_history_cost_nothing():
    scribe = Scribe()
    [nobody] = summarize([user("a", 0)], recurrent, scribe)
    assert (nobody.final, nobody.steps, nobody.usage) == (Summary(""), (), Usage())
    assert summarize([], recurrent, scribe) == []
    [silent] = summarize([user("a", 3)], none, scribe)
    assert (silent.final.text, silent.steps) == ("", ())
    assert scribe.batches == []


def test_configuration_chooses_the_paradigm():
    assert make_paradigm(Summarization(paradigm="recurrent")) is recurrent
    assert make_paradigm(Summarization(paradigm="none")) is none
    scribe = Scribe()
    paradigm = make_paradigm(Summarization(paradigm="hierarchical", fan_in=3))
    [summary] = summarize([user("a", 4)], paradigm, scribe)
    assert summary.final.text == "((a0 a1 a2) a3)"


class Picky:
    """Answers the newest request first, and never those about a forbidden item."""

    name = "picky"

    def __init__(self, forbidden=""):
        self.forbidden = forbidden
        self.order = []

    def write(self, requests):
        waiting, seen = [], 0
        while True:
            waiting += range(seen, len(requests))
            seen = len(requests)
            if not waiting:
                return
            place = waiting.pop()
            request = requests[place]
            self.order.append((request.user, request.block.items[0].id))
            if request.block.items[0].id == self.forbidden:
                yield place, Unwritten("it is forbidden", Usage(2, 0, 20, 4))
            else:
                yield place, Summary(request.block.items[0].id, usage=Usage(1, 0, 10, 2))


def test_a_user_goes_on_without_waiting_for_the_others():
    picky = Picky()
    summarize([user("a", 2), user("b", 3)], recurrent, picky)
    assert picky.order == [("b", "b0"), ("b", "b1"), ("b", "b2"), ("a", "a0"), ("a", "a1")]


def test_a_user_who_fails_is_marked_and_the_others_go_on():
    first, second = summarize([user("a", 3), user("b", 3)], recurrent, Picky(forbidden="a1"))
    assert (first.failed, first.final.text, texts(first.steps)) == ("it is forbidden", "", ["a0"])
    assert first.usage == Usage(3, 0, 30, 6)
    assert (second.failed, second.final.text) == ("", "b2")


def test_a_failed_block_fails_a_hierarchical_user_once_and_counts_all_that_was_paid():
    paradigm = partial(hierarchical, fan_in=2)
    [failed] = summarize([user("a", 3)], paradigm, Picky(forbidden="a1"))
    assert (failed.failed, failed.final.text) == ("it is forbidden", "")
    assert failed.usage == Usage(4, 0, 40, 8)


def test_a_paradigm_that_nobody_knows_is_refused():
    unchecked = Summarization.model_construct(paradigm="recurent")
    with pytest.raises(AssertionError, match="recurent"):
        make_paradigm(unchecked)
