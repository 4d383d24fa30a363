"""Packed rows against single prompts on a GPU, and a LoRA step: a random model of SmolLM2-135M's shape."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from trsr.config.ranking import Lora
from trsr.hf.adapters import add_adapter
from trsr.hf.loading import choose_device
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Path, Plan, candidate_logits, choose
from trsr.ranking.training import listwise_loss

SHAPE = {
    "vocab_size": 49_152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
}
TINY = {**SHAPE, "vocab_size": 500, "hidden_size": 72, "intermediate_size": 96, "num_hidden_layers": 2}
ANSWERS = (5, 9)
CANDIDATES = 21


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto (CUDA when there is one), cpu, cuda:1, ...")
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds with a tiny model")
    options = parser.parse_args()
    device = choose_device(options.device)
    shape = TINY if options.quick else SHAPE
    users = draw_users(2 if options.quick else 24, shape["vocab_size"])
    tokens = sum(user.tokens for user in users)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    print(
        f"{name}, torch {torch.__version__}; {len(users)} users of {CANDIDATES} candidates, {tokens:,} tokens"
    )
    for dtype in (torch.float32, torch.bfloat16):
        model = LlamaForCausalLM(LlamaConfig(**shape)).to(device, dtype).eval()
        compare(model, users, device, str(dtype).removeprefix("torch."))
    adapted = add_adapter(LlamaForCausalLM(LlamaConfig(**shape)).to(device, torch.bfloat16), Lora(rank=16))
    took = seconds(trainer(adapted, users, device), device)
    held = (
        f", {torch.cuda.max_memory_allocated(device) / 1e9:.0f} GB at most" if device.type == "cuda" else ""
    )
    print(f"LoRA step: {took:.3f} s{held}")


def draw_users(count: int, vocabulary: int) -> list[UserPrompts]:
    """Prefixes of 120 to 260 tokens, candidates of 18 to 30, as titles give them."""
    generator = np.random.default_rng(0)

    def ids(least: int, most: int) -> list[int]:
        drawn: list[int] = generator.integers(vocabulary, size=int(generator.integers(least, most))).tolist()
        return drawn

    return [UserPrompts(ids(120, 260), [ids(18, 30) for _ in range(CANDIDATES)]) for _ in range(count)]


def compare(model: LlamaForCausalLM, users: list[UserPrompts], device: torch.device, dtype: str) -> None:
    found, times = [], []
    with torch.no_grad():
        for plan in (choose(model), Plan(Path.PLAIN, False, "")):
            found.append(candidate_logits(model, users, ANSWERS, plan, budget=16_384).double())
            times.append(
                seconds(
                    lambda plan=plan: candidate_logits(model, users, ANSWERS, plan, budget=16_384), device
                )
            )
    margins = [logits[:, 0] - logits[:, 1] for logits in found]
    error = (margins[0] - margins[1]).square().mean().sqrt().item() / margins[1].std().item()
    print(
        f"{dtype}: packed {times[0]:.3f} s, one prompt a candidate {times[1]:.3f} s "
        f"({times[1] / times[0]:.1f} times); margins differ by {error:.1e} of their spread"
    )


def trainer(model: torch.nn.Module, users: list[UserPrompts], device: torch.device) -> Callable[[], object]:
    plan = choose(model)
    optimiser = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], lr=1e-4)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = candidate_logits(model.train(), users, ANSWERS, plan)
        listwise_loss(logits, [CANDIDATES] * len(users), [0] * len(users)).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def seconds(work: Callable[[], object], device: torch.device, times: int = 5) -> float:
    """Median of some repetitions, after one that compiles and fills caches."""
    taken = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken[1:]))


if __name__ == "__main__":
    main()
