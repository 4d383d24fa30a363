from __future__ import annotations

import numpy as np
import pytest
import tiny_shop
import torch

from trsr.ranking.scoring import score


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gpt_neox", "opt"])
def test_a_score_does_not_depend_on_the_batch_and_is_the_softmax_of_two_logits(architecture: str) -> None:
    ranker = tiny_shop.ranker(architecture)
    tasks = ranker.encode(tiny_shop.users(7))
    lengths = {len(task.row(place)) for task in tasks for place in range(5)}
    assert len(lengths) > 3, "the batches must hold rows of different lengths"
    together = score(ranker.model, tasks, ranker.answers, ranker.padding, 100_000)
    few = score(ranker.model, tasks, ranker.answers, ranker.padding, 300)
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
    score(ranker.model, ranker.encode(tiny_shop.users(1)), ranker.answers, ranker.padding, 1000)
    assert ranker.model.training


def test_no_users_no_scores() -> None:
    ranker = tiny_shop.ranker()
    assert score(ranker.model, [], ranker.answers, ranker.padding, 1000) == []
