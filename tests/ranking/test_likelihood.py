"""The likelihood of a candidate's text: exact against whole prompts, whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_shop
import torch

from trsr.ranking import likelihood
from trsr.ranking.likelihood import Frame, LikelihoodRanker
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.ranking.shared_prefix.strategy import Path, Plan
from trsr.records import Item


@torch.no_grad()
def by_hand(ranker: Ranker, prefix: tuple[int, ...], suffix: tuple[int, ...], frame: Frame) -> float:
    """Add up the text's log-probabilities in one whole prompt."""
    ids, (start, stop) = [*prefix, *suffix], frame.own(suffix)
    values = ranker.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    places = range(len(prefix) + start, len(prefix) + stop)
    return sum(values[place - 1, ids[place]].item() for place in places if place)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gpt_neox", "opt"])
def test_packed_rows_give_the_ratio_of_whole_prompts(architecture: str) -> None:
    ranker = tiny_shop.ranker(architecture)
    made = LikelihoodRanker(ranker)
    people = tiny_shop.users(3)
    scores = made.score(people)
    assert ranker.plan.path is Path.PACKED
    for user, got in zip(ranker.encode(people), scores, strict=True):
        leading = ranker.prompt.leading
        for suffix, ratio in zip(user.suffixes, got, strict=True):
            given, alone = (by_hand(ranker, part, suffix, made.frame) for part in (user.prefix, leading))
            assert ratio == pytest.approx(given - alone, abs=2e-5)
    assert np.ptp(np.concatenate(scores)) > 0.1, "scores that hardly differ would prove nothing"


def test_the_frame_is_the_templates_and_the_rest_is_the_candidates() -> None:
    ranker = tiny_shop.ranker()
    frame = LikelihoodRanker(ranker).frame
    item = tiny_shop.ITEMS[0]
    suffix = ranker.prompt.suffix(item)
    start, stop = frame.own(suffix.ids)
    text = ranker.tokenizer.decode(suffix.ids[start:stop])
    assert text.startswith("colour: red")
    assert text == text.strip()
    assert (suffix.ids[:start], suffix.ids[stop:]) == (frame.before, frame.behind)


def test_groups_and_single_prompts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = tiny_shop.ranker("llama")
    people = tiny_shop.users(2, candidates=9)
    whole = LikelihoodRanker(ranker).score(people)
    asked = likelihood.divide
    groups: list[int] = []
    monkeypatch.setattr(likelihood, "_ROW", 60)
    monkeypatch.setattr(
        likelihood, "divide", lambda *given: groups.append(len(made := asked(*given))) or made
    )
    parts = LikelihoodRanker(ranker).score(people)
    assert max(groups) > 1
    ranker.__dict__["plan"] = Plan(Path.PLAIN, False, "for comparison")
    single = LikelihoodRanker(ranker).score(people)
    for one, two, three in zip(whole, parts, single, strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)
        np.testing.assert_allclose(one, three, atol=2e-5)


def test_equal_texts_tie_and_no_text_says_nothing() -> None:
    ranker = tiny_shop.ranker()
    [user] = tiny_shop.users(1)
    twin = Item("twin", user.candidates[0].fields)
    asked = (*user.candidates, twin, Item("blank", {}))
    [scores] = LikelihoodRanker(ranker).score([RankingUser("u", user.summary, user.history, asked)])
    assert scores[0] == scores[-2]
    assert scores[-1] == 0.0


def test_the_mean_is_the_sum_over_the_texts_tokens() -> None:
    ranker = tiny_shop.ranker()
    people = tiny_shop.users(2)
    both = [LikelihoodRanker(ranker, length).score(people) for length in ("sum", "mean")]
    frame = LikelihoodRanker(ranker).frame
    for user, whole, mean in zip(ranker.encode(people), *both, strict=True):
        lengths = [stop - start for start, stop in map(frame.own, user.suffixes)]
        np.testing.assert_allclose(whole / lengths, mean)
