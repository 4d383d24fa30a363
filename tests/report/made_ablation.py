"""An ablation of eight settings and a planted grid, with figures from seeded normal draws."""

from __future__ import annotations

import numpy as np

from trsr.evaluation.statistics import Estimate, bootstrap_means
from trsr.report.ablation import AblationContent, Cell, Expectation, Grid, Panel, Variant
from trsr.report.results import Provenance

SEEDS = (0, 1, 2)
USERS = 250

# Name: field, question, numeric, and label, mean, p, where the p of the default is None.
SETTINGS: dict[str, tuple[str, str, bool, tuple[tuple[str, float, float | None], ...]]] = {
    "summary": ("summary.paradigm", "Does a summary help?", False,
                (("none", 0.50, 0.004), ("recurrent", 0.56, None), ("hierarchical", 0.55, 0.61))),
    "recent items": ("prompt.recent_items", "How many recent items are needed?", True,
                     (("0", 0.44, 0.001), ("1", 0.49, 0.002), ("3", 0.53, 0.04), ("5", 0.56, None),
                      ("7", 0.562, 0.9), ("10", 0.565, 0.7))),
    "block size": ("summary.block_size", "How long should a block be?", True,
                   (("3", 0.54, 0.3), ("5", 0.56, None), ("10", 0.55, 0.4))),
    "writer": ("summary.writer.kind", "Who should write the summaries?", False,
               (("keyphrase", 0.56, None), ("local model", 0.557, 0.8))),
    "loss on": ("training.loss_on", "Which tokens should be learned?", False,
                (("answer", 0.56, None), ("all tokens", 0.53, 0.06))),
    "negatives": ("training.negatives", "How many negatives in training?", True,
                  (("1", 0.54, 0.2), ("4", 0.56, None), ("20", 0.561, 0.95))),
    "loss": ("training.loss", "One by one, or against each other?", False,
             (("pointwise", 0.56, None), ("listwise", 0.61, 0.001))),
    "trained weights": ("training.lora.rank", "How many weights have to move?", False,
                        (("rank 4", 0.53, 0.1), ("rank 8", 0.55, 0.5), ("rank 32", 0.557, 0.8),
                         ("full", 0.56, None))),
}  # fmt: skip


def made_ablation() -> AblationContent:
    rng = np.random.default_rng(3)
    panels = tuple(
        Panel(
            name,
            setting,
            question,
            tuple(_variant(label, mean, p, rng) for label, mean, p in values),
            numeric,
        )
        for name, (setting, question, numeric, values) in SETTINGS.items()
    )
    means = {
        ("none", "0"): 0.22,
        ("none", "5"): 0.41,
        ("recurrent", "0"): 0.63,
        ("recurrent", "5"): 0.81,
    }
    grid = Grid(
        "summary × recent items",
        "Users whose taste was planted early, and whose last items point elsewhere.",
        ("none", "recurrent"),
        ("0", "5"),
        tuple(Cell(row, column, *_drawn(mean, rng)) for (row, column), mean in means.items()),
        (
            Expectation(
                ("recurrent", "0"),
                ("none", "0"),
                "Only the summary knows the early taste.",
                Estimate(0.41, 0.33, 0.49),
            ),
            Expectation(
                ("none", "5"),
                ("recurrent", "0"),
                "A check that must fail here.",
                Estimate(-0.22, -0.3, -0.14),
            ),
            Expectation(
                ("recurrent", "5"),
                ("recurrent", "0"),
                "Recent items add what is new.",
                Estimate(0.02, -0.01, 0.05),
            ),
            Expectation(("none", "5"), ("none", "0"), "Recent items are better than nothing."),
        ),
    )
    provenance = Provenance(
        "trsr ablate --config examples/demo.yaml",
        "name: demo\n",
        seeds=SEEDS,
        split_seed=0,
        users={"test": USERS},
    )
    return AblationContent("demo", "NDCG@10", "uniform", 21, "test", panels, provenance, (grid,))


def _variant(label: str, mean: float, p: float | None, rng: np.random.Generator) -> Variant:
    value, seeds = _drawn(mean, rng)
    return Variant(
        label, value, seeds, p is None, p, USERS, 100 * mean, "cut at 5 epochs" if label == "full" else ""
    )


def _drawn(mean: float, rng: np.random.Generator) -> tuple[Estimate, tuple[float, ...]]:
    values = np.clip(rng.normal(mean, 0.3, (USERS, len(SEEDS))), 0, 1)
    [estimate] = bootstrap_means(values.mean(axis=1)[:, None], 200, 0)
    return estimate, tuple(map(float, values.mean(axis=0)))
