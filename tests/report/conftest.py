from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_comparison import made_comparison

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER, Finding, Usage
from trsr.report.comparison.page import render
from trsr.report.comparison.results import ComparisonContent
from trsr.report.content import RankedLine, ReportContent, RunCard, TrainingLog, UserCard

OWN = "TRSR (compact)"
KS = (3, 5, 10)
NEGATIVES = 20


def interval(mean: float, half: float = 0.05) -> dict[str, float]:
    return {"mean": mean, "low": round(mean - half, 6), "high": round(mean + half, 6)}


def metrics_of(recalls: dict[str, float], half: float = 0.05) -> dict[str, Any]:
    """All nine measures of every system, made from its Recall@3 so that a test can read them back."""
    systems = {}
    for name, recall in recalls.items():
        values = {}
        for index, kind in enumerate(("Recall", "MRR", "NDCG")):
            for k in KS:
                values[f"{kind}@{k}"] = interval(round(recall * (1 - 0.1 * index) + 0.01 * (k - 3), 6), half)
        systems[name] = {
            "valid": {"users": 203, "tie_rate": 0.0, "metrics": values},
            "test": {"users": 207, "tie_rate": 0.012, "metrics": values},
        }
    return {"sampler": "uniform", "negatives": NEGATIVES, "systems": systems}


def frames(users: int = 60) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    rng = np.random.default_rng(7)
    scores, candidates, histories = [], [], []
    for user in range(users):
        name, split = f"u{user}", "test" if user % 2 else "train"
        items = [f"i{item}" for item in rng.choice(500, size=NEGATIVES + 1, replace=False)]
        target = items[user % len(items)]
        candidates.append({USER: name, SPLIT: split, TARGET: target, CANDIDATES: items})
        length = int(rng.integers(10, 26))
        histories.append(
            {USER: name, SPLIT: split, HISTORY: [f"h{n}" for n in range(length)], TARGET: target}
        )
        if split == "test":
            for item in items:
                p = float(rng.beta(5, 4) if item == target else rng.beta(2, 6))
                scores.append({USER: name, SPLIT: split, ITEM: item, P_YES: p})
    return pl.DataFrame(scores), pl.DataFrame(candidates), pl.DataFrame(histories)


def card(number: int) -> UserCard:
    lines = [
        RankedLine(f"Candidate {n} of user {number}", 0.9 - 0.04 * n, n == number)
        for n in range(NEGATIVES + 1)
    ]
    return UserCard(
        user_id=f"user-{number}",
        history=tuple(f"History item {n} of user {number}" for n in range(12)),
        steps=("Looks at hand tools.", "Hand tools, and now garden hoses."),
        summary=f"Final summary of user {number}: hand tools, and lately garden hoses.",
        ranked=tuple(lines),
        rank=float(number + 1),
    )


def log() -> TrainingLog:
    steps = tuple(
        {"step": s, "epoch": s / 100, "loss": 0.7 * 0.997**s + 0.02 * (s % 3)} for s in range(5, 400, 5)
    )
    epochs = tuple(
        {"epoch": e, "valid_loss": 0.6 - 0.05 * e + 0.015 * e**2, "valid_recall_sum": r}
        for e, r in enumerate((1.0, 1.3, 1.5, 1.45), start=1)
    )
    return TrainingLog(steps, epochs, tuple({"step": s, "loss": 8 * 0.99**s + 2} for s in range(0, 300, 4)))


def full_content() -> ReportContent:
    scores, candidates, histories = frames()
    return ReportContent(
        name="demo",
        system=OWN,
        metrics=metrics_of({"random": 0.14, "popularity": 0.2, "tfidf": 0.3, OWN: 0.52}),
        run=RunCard(
            config="name: demo\nseed: 0\n",
            versions={"trsr": "0.1.0", "python": "3.11.2"},
            seeds={"run": 11, "data": 0},
            hashes={"dataset/items.parquet": "ab" * 32},
            seconds={"prepare": 1.5, "summarize": 22.25, "train": 190.0},
            usage=Usage(calls=4321, calls_reused=12, prompt_tokens=99_001, completion_tokens=5_005),
            paradigm="recurrent",
            writer="keyphrase",
        ),
        domain="shopping",
        catalogue=800,
        log=log(),
        scores=scores,
        candidates=candidates,
        histories=histories,
        cards=tuple(card(number) for number in range(12)),
        findings=(
            Finding(
                "unknown-item",
                "Items of histories that the catalogue lacks.",
                1234,
                "dropped",
                ("a.tsv:3: x9",),
            ),
            Finding("empty-text", "Items without a text keep their id.", 7, "noted"),
        ),
    )


@pytest.fixture(scope="session")
def content() -> ReportContent:
    return full_content()


@pytest.fixture(scope="session")
def bare() -> ReportContent:
    """A run of paradigm none that was neither trained nor looked at."""
    return ReportContent(
        name="bare",
        system=OWN,
        metrics=metrics_of({OWN: 0.5, "random": 0.14}),
        run=RunCard(config="name: bare\n"),
    )


@pytest.fixture
def with_recalls(content: ReportContent):  # type: ignore[no-untyped-def]
    def make(half: float = 0.05, **recalls: float) -> ReportContent:
        own = recalls.pop("own")
        return replace(content, metrics=metrics_of({OWN: own, **recalls}, half))

    return make


@pytest.fixture(scope="session")
def comparison() -> ComparisonContent:
    return made_comparison()


@pytest.fixture(scope="session")
def comparison_page(comparison: ComparisonContent) -> str:
    return render(comparison)
