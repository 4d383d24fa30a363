"""A run whose figures are made from each system's Recall@3."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from trsr.evaluation.statistics import Estimate
from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER, Finding, Usage
from trsr.report.page import RunContent, TrainingLog
from trsr.report.results import (
    Kind,
    MetricTable,
    Provenance,
    RankedItem,
    RankedList,
    Results,
    System,
    SystemRow,
    UserCase,
    UserCases,
)

OWN = "TRSR (compact)"
KS = (3, 5, 10)
NEGATIVES = 20


def tables_of(recalls: dict[str, float], half: float = 0.05) -> tuple[MetricTable, ...]:
    """All nine measures of every system, made from its Recall@3 so that a test can read them back."""
    tables = []
    for split, users in (("test", 207), ("valid", 203)):
        rows = []
        for name, recall in recalls.items():
            means = {
                f"{kind}@{k}": round(recall * (1 - 0.1 * index) + 0.01 * (k - 3), 6)
                for index, kind in enumerate(("Recall", "MRR", "NDCG"))
                for k in KS
            }
            values = {metric: Estimate(mean, mean - half, mean + half) for metric, mean in means.items()}
            rows.append(SystemRow(name, users, values, 0.012))
        tables.append(MetricTable("uniform", NEGATIVES + 1, tuple(rows), split=split))
    return tuple(tables)


def results_of(recalls: dict[str, float], half: float = 0.05, name: str = "demo") -> Results:
    systems = (System(one, kind=Kind.LANGUAGE_MODEL if one == OWN else Kind.BASELINE) for one in recalls)
    return Results(
        name,
        "NDCG@10",
        tuple(systems),
        tables_of(recalls, half),
        Provenance("trsr run config.yaml", f"name: {name}\n"),
        domain="shopping",
        items=800,
        language_model=OWN,
    )


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


def case(number: int) -> UserCase:
    items = tuple(
        RankedItem(f"Candidate {n} of user {number}", 0.9 - 0.04 * n, n == number)
        for n in range(NEGATIVES + 1)
    )
    return UserCase(
        user_id=f"user-{number}",
        history=tuple(f"History item {n} of user {number}" for n in range(12)),
        target=f"Candidate {number} of user {number}",
        rankings=(RankedList(OWN, float(number + 1), items, NEGATIVES + 1),),
        summary=f"Final summary of user {number}: hand tools, and lately garden hoses.",
        steps=("Looks at hand tools.", "Hand tools, and now garden hoses."),
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


def full_content() -> RunContent:
    scores, candidates, histories = frames()
    results = replace(
        results_of({"random": 0.14, "popularity": 0.2, "tfidf": 0.3, OWN: 0.52}),
        provenance=Provenance(
            "trsr run config.yaml",
            "name: demo\nseed: 0\n",
            seeds=(11,),
            split_seed=11,
            versions={"trsr": "0.1.0", "python": "3.11.2"},
            hashes={"dataset/items.parquet": "ab" * 32},
            users={"test": 207, "valid": 203},
        ),
        baseline="tfidf",
        cases=UserCases("Drawn by the seed.", {"": tuple(case(number) for number in range(12))}),
    )
    return RunContent(
        results=results,
        seconds={"prepare": 1.5, "summarize": 22.25, "train": 190.0},
        usage=Usage(calls=4321, calls_reused=12, prompt_tokens=99_001, completion_tokens=5_005),
        paradigm="recurrent",
        writer="keyphrase",
        log=log(),
        scores=scores,
        candidates=candidates,
        histories=histories,
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
