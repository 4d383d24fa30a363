"""Side by side in one process: paper style, good practice, and the shared prefix computed once.

python benchmarks/shared_prefix.py            # the tables and plots of docs/performance.md
python benchmarks/shared_prefix.py --quick    # a smoke run, nothing is written
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from arithmetic import separate, shared
from contenders import GOOD, PAPER, Contender, ours
from measuring import Cost, measure
from pages import write_page
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Path as Way
from trsr.ranking.shared_prefix.strategy import choose

ROOT = Path(__file__).parent.parent
MODELS = {"tiny": (64, 2), "small": (256, 6), "middle": (512, 8)}
PAPER_SAMPLE = 2
"""Paper style takes one prompt at a time and every prompt the same time: two are timed, and multiplied."""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the grid."""

    work: str
    model: str
    prefix: int
    suffix: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Row:
    """What a cell came to."""

    case: Case
    paper: Cost
    good: Cost
    ours: Cost
    limit: float
    """Operations of good practice over those of the shared prefix."""


def cases(*, quick: bool) -> Iterator[Case]:
    """The grid."""
    if quick:
        yield Case("score", "tiny", 40, 8, 5)
        yield Case("train", "tiny", 40, 8, 3)
        return
    for model in ("small", "middle"):
        for suffix in (40, 120):
            for prefix in (300, 800, 1500):
                yield Case("score", model, prefix, suffix, 21)
        whole = ((300, 40), (800, 40), (1500, 40), (300, 120), (800, 120), (1500, 120))
        for prefix, suffix in whole if model == "small" else ((800, 40),):
            for negatives in (1, 4, 20):
                yield Case("train", model, prefix, suffix, negatives + 1)
    for suffix in (40, 120):
        for prefix in (300, 800, 1500):
            yield Case("score", "small", prefix, suffix, 101)


def make_model(name: str) -> Qwen2ForCausalLM:
    """A model of the Qwen2 architecture with random weights."""
    hidden, layers = MODELS[name]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=8192,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return Qwen2ForCausalLM(config).eval()


def add_lora(model: Qwen2ForCausalLM) -> nn.Module:
    """Adapters of rank 8 on the attention projections."""
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM")).train()


def run(case: Case, runs: int) -> Row:
    """Measure one cell."""
    model: nn.Module = make_model(case.model)
    config = model.config
    if case.work == "train":
        model = add_lora(model)
    plan = choose(model)
    if plan.path is not Way.PACKED:
        raise SystemExit(plan.reason)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 8192, (case.prefix + case.candidates * case.suffix,), generator=generator)
    prefix, rest = ids[: case.prefix].tolist(), ids[case.prefix :].view(case.candidates, case.suffix).tolist()
    user = UserPrompts(prefix, rest)
    contenders = (PAPER, GOOD, ours(plan))
    if case.work == "score":
        costs = [_scoring(contender, model, user, runs) for contender in contenders]
    else:
        costs = [_training(contender, model, user, runs) for contender in contenders]
    shape = (config, case.prefix, case.suffix, case.candidates)
    return Row(case, *costs, separate(*shape) / shared(*shape))


@torch.inference_mode()
def _scoring(contender: Contender, model: nn.Module, user: UserPrompts, runs: int) -> Cost:
    if contender is PAPER:
        some = UserPrompts(user.prefix, user.suffixes[:PAPER_SAMPLE])
        cost = measure(lambda: contender.score(model, some), runs=1, enough_s=1)
        return cost.times(len(user.suffixes) / len(some.suffixes))
    # The warm-up is a check: all ways must give the same scores.
    few = UserPrompts(user.prefix, user.suffixes[:3])
    torch.testing.assert_close(contender.score(model, few), PAPER.score(model, few), atol=1e-4, rtol=0)
    return measure(lambda: contender.score(model, user), runs=runs, enough_s=8)


def _training(contender: Contender, model: nn.Module, user: UserPrompts, runs: int) -> Cost:
    def step() -> None:
        model.zero_grad()
        contender.train(model, user)

    step()
    return measure(step, runs=runs, enough_s=8)


def describe(row: Row) -> str:
    """One line of progress."""
    case, (paper, good, own) = row.case, (row.paper, row.good, row.ours)
    return (
        f"{case.work} {case.model} {case.prefix} + {case.candidates} x {case.suffix}: "
        f"paper {paper.wall_s:.2f} s, good {good.wall_s:.2f} s, ours {own.wall_s:.3f} s; "
        f"{paper.cpu_s / own.cpu_s:.1f}x and {good.cpu_s / own.cpu_s:.1f}x, limit {row.limit:.1f}x; "
        f"memory {paper.memory_mb:.0f}, {good.memory_mb:.0f}, {own.memory_mb:.0f} MB"
    )


def main() -> None:
    """Run the grid and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds that writes nothing")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where performance.md lies")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for case in cases(quick=arguments.quick):
        row = run(case, runs=1 if arguments.quick else 5)
        rows.append(row)
        print(describe(row), flush=True)
    if not arguments.quick:
        machine = f"{platform.machine()}, torch {torch.__version__}, {arguments.threads} thread(s), float32"
        records = ROOT / "runs" / "bench" / "shared_prefix.json"
        records.parent.mkdir(parents=True, exist_ok=True)
        records.write_text(json.dumps([asdict(row) for row in rows], indent=1))
        write_page(rows, arguments.out, machine)


if __name__ == "__main__":
    main()
