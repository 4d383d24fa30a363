import pytest
import torch
from torch.nn import functional

from trsr.baselines.neural.network import NegativeDraw, full_softmax, sampled_softmax

COUNTS = torch.tensor([6, 0, 3, 1])


def test_shares_of_the_draw_by_hand() -> None:
    negatives = NegativeDraw(COUNTS, uniform_share=0.5)
    drawn = negatives.draw((20_000,), torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = torch.tensor([0.5 / 3 + 0.3, 0.0, 0.5 / 3 + 0.15, 0.5 / 3 + 0.05])
    assert torch.allclose(shares, expected, atol=0.02)
    assert shares[1] == 0
    assert torch.allclose(negatives.log_chance[negatives.seen].exp(), expected[[0, 2, 3]])


def test_a_seed_gives_the_same_draw() -> None:
    negatives = NegativeDraw(COUNTS, uniform_share=0.0)
    draws = [negatives.draw((5, 3), torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("uniform_share", [0.0, 0.3, 1.0])
def test_the_sampled_loss_estimates_the_full_one(uniform_share: float) -> None:
    draw = torch.Generator().manual_seed(0)
    n_items = 200
    counts = torch.randint(1, 50, (n_items,), generator=draw)
    logits = torch.randn(8, n_items, generator=draw)
    targets = torch.arange(8)
    negatives = NegativeDraw(counts, uniform_share)
    drawn = negatives.draw((20_000,), draw)
    own = logits.gather(1, targets[:, None]).squeeze(1)
    sampled = sampled_softmax(own, logits[:, drawn], targets, drawn, negatives.log_chance, smoothing=0.0)
    assert sampled.item() == pytest.approx(full_softmax(logits, targets, 0.0).item(), abs=0.02)
    # Without the correction it would be far away.
    wrong = functional.cross_entropy(torch.cat([own[:, None], logits[:, drawn]], 1), torch.zeros(8).long())
    assert abs(wrong.item() - sampled.item()) > 1


def test_a_target_is_no_negative_of_its_own() -> None:
    own, targets, drawn = torch.zeros(1), torch.tensor([2]), torch.tensor([2, 2])
    log_chance = NegativeDraw(COUNTS, 1.0).log_chance
    loss = sampled_softmax(own, torch.zeros(1, 2), targets, drawn, log_chance, smoothing=0.0)
    assert loss.item() == 0.0
