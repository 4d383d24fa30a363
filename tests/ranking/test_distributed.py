from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_shop
import torch
import two_processes
from safetensors.torch import load_file

from trsr.ranking.training import plan_epochs


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes that train together leave behind."""
    out = tmp_path_factory.mktemp("together")
    for code, said in two_processes.both(two_processes.train_all, out):
        assert code == 0, said[-5000:]
    return out


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares with one process on the CPU")
@pytest.mark.parametrize("case", two_processes.CASES)
def test_two_processes_train_as_one_that_accumulates_twice_as_much(
    case: str, together: Path, tmp_path: Path
) -> None:
    weights, log, _ = two_processes.run(case, tmp_path, times=2)
    start = dict(tiny_shop.ranker().model.named_parameters())
    assert any(name not in start or not torch.equal(start[name], weights[name]) for name in weights)
    for rank in (0, 1):
        others = load_file(together / f"{case}-{rank}.safetensors")
        assert others.keys() == weights.keys()
        for name, value in weights.items():
            assert torch.allclose(others[name], value, rtol=0, atol=1e-5), name
        told = json.loads((together / f"{case}-{rank}.json").read_text(encoding="utf-8"))["log"]
        assert [(entry["step"], entry["epoch"]) for entry in told] == [
            (entry["step"], entry["epoch"]) for entry in log
        ]
        for one, other in zip(log, told, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
        validated = [entry for entry in log if "valid_recall_sum" in entry]
        assert validated == [entry for entry in told if "valid_recall_sum" in entry]
        assert len(validated) == (3 if case == "killed" else 2)


@pytest.mark.parametrize(("users", "accumulation"), [(23, 3), (24, 1), (5, 4), (1, 1)])
def test_an_epoch_is_a_whole_number_of_updates_of_all_processes(users: int, accumulation: int) -> None:
    encoded = tiny_shop.ranker().encode(tiny_shop.users(users))
    settings = two_processes.SMALL.model_copy(update={"accumulation": accumulation})
    plan = plan_epochs(encoded, settings, 0, 2)
    # no more batches an update than there are users, but one for each process
    multiple = 2 * min(accumulation, max(1, users // 2))
    assert len(plan) % (settings.epochs * multiple) == 0
    size = len(plan) // settings.epochs
    for epoch in range(settings.epochs):
        asked = {example.user for batch in plan[epoch * size : (epoch + 1) * size] for example in batch}
        assert asked == set(range(users))


def test_the_processes_had_batches_of_several_forward_passes_and_not_equally_many(together: Path) -> None:
    # Otherwise the case would not show that gradients of several passes are averaged as those of one are.
    rows = [
        json.loads((together / f"rows-{rank}.json").read_text(encoding="utf-8"))["rows"] for rank in (0, 1)
    ]
    assert len(rows[0]) == len(rows[1])
    assert max(rows[0]) > 1
    assert rows[0] != rows[1]


def test_the_main_process_alone_writes_the_weights(together: Path) -> None:
    folder = together / "full"
    assert (folder / "best.safetensors").exists()
    assert not list(folder.glob(".best*")), "no half of anything"
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    # each process's own state of chance, and one of everything else
    names = sorted(path.name for path in newest.iterdir())
    assert [name for name in names if name.startswith("rng_state")] == ["rng_state_0.pth", "rng_state_1.pth"]
    assert names.count("model.safetensors") == 1
