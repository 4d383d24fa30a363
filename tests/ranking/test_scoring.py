from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import tiny_shop
import torch

from trsr.evaluation.metrics import place_target
from trsr.ranking.scoring import RankingUser, score
from trsr.ranking.shared_prefix.forward import PrefixMemory
from trsr.ranking.shared_prefix.strategy import Path, Plan
from trsr.records import Item


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gpt_neox", "opt"])
def test_a_score_does_not_depend_on_the_batch_and_is_the_softmax_of_two_logits(architecture: str) -> None:
    ranker = tiny_shop.ranker(architecture)
    tasks = ranker.encode(tiny_shop.users(7))
    lengths = {len(task.row(place)) for task in tasks for place in range(5)}
    assert len(lengths) > 3, "the batches must hold rows of different lengths"
    together = score(ranker.model, tasks, ranker.answers, ranker.plan, 100_000)
    plain = Plan(Path.PLAIN, False, "for comparison")
    few = score(ranker.model, tasks, ranker.answers, plain, 300)
    assert ranker.plan.path is Path.PACKED
    for task, one, other in zip(tasks, together, few, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        for place in range(len(task.suffixes)):
            with torch.inference_mode():
                logits = ranker.model(input_ids=torch.tensor([task.row(place)])).logits[0, -1]
            yes, no = float(logits[ranker.answers.yes]), float(logits[ranker.answers.no])
            assert one[place] == pytest.approx(1 / (1 + np.exp(no - yes)), abs=1e-5)
    assert np.ptp(np.concatenate(together)) > 1e-3, "scores that hardly differ would prove nothing"


def test_scoring_leaves_a_training_model_in_training() -> None:
    ranker = tiny_shop.ranker()
    ranker.model.train()
    score(ranker.model, ranker.encode(tiny_shop.users(1)), ranker.answers, ranker.plan, 1000)
    assert ranker.model.training


def test_no_users_no_scores() -> None:
    ranker = tiny_shop.ranker()
    assert score(ranker.model, [], ranker.answers, ranker.plan, 1000) == []


def test_a_second_request_finds_the_prefix_and_scores_the_same() -> None:
    ranker = tiny_shop.ranker()
    tasks = ranker.encode(tiny_shop.users(3))
    memory = PrefixMemory(1 << 20)
    fresh = score(ranker.model, tasks, ranker.answers, ranker.plan, 1000)
    first = score(ranker.model, tasks, ranker.answers, ranker.plan, 1000, memory=memory)
    assert len(memory) == 3
    held = memory.held_bytes
    second = score(ranker.model, tasks, ranker.answers, ranker.plan, 1000, memory=memory)
    assert memory.held_bytes == held
    for one, two, three in zip(fresh, first, second, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
        np.testing.assert_allclose(two, three, atol=1e-5)


@pytest.mark.parametrize("way", [*Path, "serving"])
def test_candidates_with_equal_texts_tie_to_the_last_bit(way: str) -> None:
    ranker = tiny_shop.ranker()
    things = product(tiny_shop.COLOURS, ("lamp", "chair", "mug", "rug", "vase", "bowl"))
    items = tuple(Item(f"i{number}", {"title": " ".join(thing)}) for number, thing in enumerate(things))
    # The first item's text at both ends and in the middle, by other ids, among others of all lengths.
    twins = [Item(f"twin-{number}", items[0].fields) for number in range(2)]
    asked = (items[0], *items[1:12], twins[0], *items[12:], twins[1])
    people = [RankingUser(f"u{number}", "", items[number : number + 2], asked) for number in range(3)]
    plan = ranker.plan if way == "serving" else Plan(Path(way), ranker.plan.trims, "")
    memory = PrefixMemory(1 << 20) if way == "serving" else None
    for _ in range(2):
        scores = score(ranker.model, ranker.encode(people), ranker.answers, plan, 300, memory=memory)
        for p_yes in scores:
            assert len(p_yes) == len(asked)
            assert p_yes[0] == p_yes[12] == p_yes[-1]
            assert len(set(p_yes)) == len(asked) - 2
            # Rank 1 + above + half of the two that tie.
            above, tied = place_target([p_yes], [0])
            assert tied[0] == 2
            assert above[0] == (p_yes > p_yes[0]).sum()
