import torch

from trsr.baselines.neural.network import SPECIAL, ItemVectors


def test_without_training_an_item_is_its_text() -> None:
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    for adapter in ("none", "linear"):
        items = ItemVectors(2, 2, text, adapter)
        assert torch.equal(items(torch.tensor([0, 1])), text)
    assert sorted({items.padding, items.start, items.hidden}) == list(range(2, 2 + SPECIAL))


def test_the_learned_part_is_scaled() -> None:
    items = ItemVectors(1, 2, torch.tensor([[1.0, 0.0]]), offset_scale=0.5)
    with torch.no_grad():
        items.learned.weight[0] = torch.tensor([2.0, 4.0])
    assert items(torch.tensor(0)).tolist() == [2.0, 2.0]


def test_frozen_items_have_no_learned_part_and_special_ids_have_one() -> None:
    text = torch.tensor([[1.0, 0.0, 2.0], [0.6, 0.8, 0.0], [1.0, 0.0, 2.0]])
    items = ItemVectors(3, 2, text, "mlp", offset_scale=0.0)
    assert items.learned.weight.shape == (SPECIAL, 2)
    found = items(torch.tensor([0, 2, items.padding, items.start, items.hidden]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2:], items.learned.weight)
    before = found.detach().clone()
    items.settle(torch.tensor([1, 0, 1]))
    assert torch.equal(items(torch.tensor([0, 2, 3, 4, 5])), before)
    assert items.kinds.tolist()[0] == items.kinds.tolist()[2] != items.kinds.tolist()[1]


def test_items_never_seen_take_the_mean_of_the_rarest() -> None:
    items = ItemVectors(5, 1)
    with torch.no_grad():
        items.learned.weight[:5] = torch.tensor([[1.0], [3.0], [50.0], [70.0], [90.0]])
    items.settle(torch.tensor([1, 1, 9, 0, 8]))
    assert items.learned.weight[:5].squeeze(1).tolist() == [1.0, 3.0, 50.0, 2.0, 90.0]


def test_without_unseen_items_nothing_changes() -> None:
    items = ItemVectors(3, 2)
    before = items.learned.weight.detach().clone()
    items.settle(torch.tensor([1, 1, 1]))
    items.settle(torch.tensor([0, 0, 0]))
    assert torch.equal(items.learned.weight, before)
