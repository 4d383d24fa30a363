import pytest
import torch

from trsr.baselines.neural.architectures import BERT4Rec, Caser, ESASRec, GRU4Rec, LiGRBlock, SASRec
from trsr.baselines.neural.network import ItemVectors, NegativeDraw, NextItemNetwork, Settings

SMALL = Settings(width=8, max_length=12)


def made(network: type[NextItemNetwork], settings: Settings = SMALL) -> NextItemNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network(ItemVectors(10, settings.width), settings).eval()


@pytest.mark.parametrize("kind", [SASRec, ESASRec, GRU4Rec, Caser])
def test_a_state_knows_nothing_of_later_items(kind: type[NextItemNetwork]) -> None:
    network = made(kind)
    states = network.states(torch.tensor([[1, 2, 3, 4, 5, 6]]))
    other = network.states(torch.tensor([[1, 2, 3, 7, 8, 9]]))
    assert torch.allclose(states[:, :3], other[:, :3], atol=1e-6)
    assert not torch.allclose(states[:, 3:], other[:, 3:], atol=1e-4)


def test_a_shut_gate_adds_nothing_and_an_open_one_all() -> None:
    block = LiGRBlock(8, 2, 0.5).eval()
    states, bias = torch.randn(1, 3, 8), torch.zeros(1, 1, 3, 3)

    def passed(opened: float) -> torch.Tensor:
        for gate in (block.gate_attention, block.gate_feed):
            torch.nn.init.zeros_(gate.weight)
            torch.nn.init.constant_(gate.bias, opened)
        return block(states, bias)

    assert torch.allclose(passed(-50.0), states)
    attended = states + block.attend(states, bias)
    assert torch.allclose(passed(50.0), attended + block.feed(block.before_feed(attended)), atol=1e-6)


def test_bert4rec_sees_both_sides_of_a_gap_but_not_what_is_hidden() -> None:
    network = made(BERT4Rec)
    gap = network.items.hidden
    states = network.states(torch.tensor([[1, gap, 3]]))
    assert not torch.allclose(states[:, 1], network.states(torch.tensor([[1, gap, 4]]))[:, 1], atol=1e-4)
    seen: list[torch.Tensor] = []
    network.states = lambda ids: (seen.append(ids), torch.zeros(*ids.shape, 8))[1]  # type: ignore[method-assign]
    sequences = torch.tensor([[1, 2, 3, 4], [5, 6, 10, 10]])
    network.loss(sequences, NegativeDraw(torch.ones(10), 1.0), torch.Generator().manual_seed(0))
    shown = seen[0][:, 1:]
    assert ((shown == gap) | (shown == sequences)).all()
    assert (shown == gap).any(dim=1).all()
    assert (shown[1, 2:] == network.items.padding).all()


@pytest.mark.parametrize(
    ("negatives", "words"), [(0, "full softmax over 10 items"), (4, "softmax over 4 nega")]
)
def test_negatives_are_told_in_words(negatives: int, words: str) -> None:
    network = made(SASRec, SMALL.model_copy(update={"negatives": negatives}))
    assert network.kind_of_negatives(10).startswith(words)


def test_more_negatives_than_items_are_the_full_softmax() -> None:
    losses = []
    for negatives in (0, 10):
        network = made(SASRec, SMALL.model_copy(update={"negatives": negatives}))
        draw = NegativeDraw(torch.ones(10), 1.0)
        losses.append(network.loss(torch.tensor([[1, 2, 3]]), draw, torch.Generator().manual_seed(0)).item())
    assert losses[0] == losses[1]
