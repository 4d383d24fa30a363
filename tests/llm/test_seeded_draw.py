from __future__ import annotations

import pytest
import torch

from trsr.config.summary import Sampling
from trsr.llm.local import SeededDraw

SCORES = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
NO_IDS = torch.zeros((1, 0), dtype=torch.long)


def frequencies(sampling: Sampling, draws: int = 4000) -> torch.Tensor:
    draw = SeededDraw([[1, 2]], sampling)
    picks = torch.stack([draw(NO_IDS, SCORES[None]).argmax(dim=1) for _ in range(draws)])
    return torch.bincount(picks.flatten(), minlength=4) / draws


def test_draws_follow_the_distribution() -> None:
    found = frequencies(Sampling(temperature=1.0))
    # Three standard errors of a share near a half over 4,000 draws are 0.024.
    torch.testing.assert_close(found, SCORES.exp(), atol=0.024, rtol=0)


def test_the_temperature_sharpens() -> None:
    # At temperature 1/2 probabilities are squared: 0.25, 0.09, 0.0225, 0.0025, over 0.365.
    found = frequencies(Sampling(temperature=0.5))
    expected = torch.tensor([0.25, 0.09, 0.0225, 0.0025]) / 0.365
    torch.testing.assert_close(found, expected, atol=0.024, rtol=0)


def test_the_nucleus_leaves_out_the_tail() -> None:
    found = frequencies(Sampling(temperature=1.0, top_p=0.7))
    assert found[2:].tolist() == [0.0, 0.0]
    assert found[1] > 0


def noise(prompts: list[list[int]], seed: int = 0) -> torch.Tensor:
    draw = SeededDraw(prompts, Sampling(temperature=1.0, seed=seed))
    return draw(NO_IDS, torch.zeros(len(prompts), 4))


def test_a_prompts_noise_does_not_depend_on_its_batch() -> None:
    alone, together = noise([[5, 6]]), noise([[1], [5, 6], [7]])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("other", [noise([[5, 6]], seed=1), noise([[56]])])
def test_another_seed_or_prompt_draws_otherwise(other: torch.Tensor) -> None:
    assert not torch.equal(noise([[5, 6]]), other)
