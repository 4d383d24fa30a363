"""A comparison of fourteen systems whose figures come from simulated ranks, through the real evaluation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.evaluation.agreement import hit_matrix
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import expected_metrics, metrics_at
from trsr.evaluation.statistics import Estimate, bootstrap_means, paired_tests, with_reference
from trsr.report.results import (
    Agreement,
    Choice,
    FusionWeights,
    Kind,
    MetricTable,
    Option,
    Provenance,
    RankedItem,
    RankedList,
    Results,
    Slice,
    System,
    SystemCalibration,
    SystemRow,
    TwoStage,
    UserCase,
    UserCases,
)

MEASURE = "NDCG@10"
NEGATIVES = 20
SEEDS = (0, 1, 2)
ITEMS = 5311
MODEL, BASELINE, FUSED = "recurrent", "sasrec_text", "fused"

# Name: skill against uniform and against popularity negatives, seconds, examples, negatives in training.
SKILLS: dict[str, tuple[float, float, float | None, int | None, str]] = {
    "random": (0.0, 0.0, None, None, ""),
    "popularity": (1.1, 0.1, 0.04, 18_211, ""),
    "itemknn": (1.7, 1.2, 1.9, 18_211, ""),
    "tfidf": (1.05, 1.0, 2.6, None, ""),
    "bm25": (1.04, 1.0, 2.4, None, ""),
    "ncf": (1.4, 0.8, 41.0, 18_211, "4 a positive, uniform"),
    "din": (1.9, 0.9, 75.0, 18_211, "4 a positive, uniform"),
    "caser": (1.7, 0.95, 88.0, 18_211, "4 a positive, uniform"),
    "gru4rec": (2.3, 1.4, 92.0, 18_211, "all items (softmax)"),
    "sasrec": (2.6, 1.8, 95.0, 18_211, "all items (softmax)"),
    "bert4rec": (2.2, 1.5, 140.0, 18_211, "all items (softmax)"),
    "sasrec_text": (2.75, 2.0, 102.0, 18_211, "all items (softmax)"),
    "recurrent": (2.15, 1.55, 812.0, 16_040, "4 a positive, uniform"),
    "fused": (2.95, 2.2, 921.0, None, ""),
}
KINDS = {"recurrent": Kind.LANGUAGE_MODEL, "fused": Kind.FUSED}


def made_comparison(users: int = 300, resamples: int = 200) -> Results:
    systems = tuple(_system(name) for name in SKILLS)
    scores = {sampler: _scores(sampler, users) for sampler in ("uniform", "popularity")}
    tables = tuple(_table(sampler, scores[sampler], resamples) for sampler in scores)
    frames = {name: _frame(runs) for name, runs in scores["uniform"].items()}
    return Results(
        name="demo",
        measure=MEASURE,
        systems=systems,
        tables=tables,
        provenance=_provenance(),
        domain="shopping",
        items=ITEMS,
        language_model=MODEL,
        baseline=BASELINE,
        catalogue=_catalogue(tables[0]),
        two_stage=_two_stage(tables[0]),
        calibration=(_calibration(MODEL, scores, 1.0), _calibration(FUSED, scores, 0.55)),
        fusion=FusionWeights(
            FUSED,
            {MODEL: 0.412, "sasrec_text": 1.203, "itemknn": 0.334, "tfidf": 0.021, "popularity": -0.187},
            "validation users, uniform negatives, 5 folds",
        ),
        agreement=_agreement(frames),
        cases=UserCases(
            "The three users with the largest gain, and the three with the largest loss, in rank.",
            {
                "Ahead": tuple(_case(number, ahead=True) for number in range(3)),
                "Behind": tuple(_case(number, ahead=False) for number in range(3)),
            },
        ),
    )


def _system(name: str) -> System:
    _, _, seconds, examples, negatives = SKILLS[name]
    seeds = 1 if name in ("random", "popularity", "itemknn", "tfidf", "bm25") else len(SEEDS)
    return System(
        name,
        kind=KINDS.get(name, Kind.BASELINE),
        description=f"What {name} does, told in one sentence.",
        training_examples=examples,
        training_negatives=negatives,
        seconds=seconds,
        seeds=seeds,
    )


def _scores(sampler: str, users: int) -> dict[str, list[NDArray[np.float64]]]:
    """Scores ``(n_users, 21)`` per seed; column 0 is the target; all systems share the users' difficulty."""
    rng = np.random.default_rng(5 if sampler == "uniform" else 6)
    ease = rng.normal(0, 0.9, users)
    shared = rng.normal(0, 0.7, (users, NEGATIVES + 1))
    found: dict[str, list[NDArray[np.float64]]] = {}
    for name, skills in SKILLS.items():
        skill = skills[0] if sampler == "uniform" else skills[1]
        runs = []
        for _ in range(_system(name).seeds):
            table = shared + rng.normal(0, 0.7, shared.shape)
            table[:, 0] += 0.75 * skill * (1 + 0.5 * ease) + rng.normal(0, 0.02)
            runs.append(table)
        found[name] = runs
    return found


def _metrics(table: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    above = (table[:, 1:] > table[:, :1]).sum(axis=1)
    tied = (table[:, 1:] == table[:, :1]).sum(axis=1)
    return expected_metrics(above, tied, NEGATIVES, metrics_at((3, 5, 10)))


def _frame(runs: list[NDArray[np.float64]]) -> pl.DataFrame:
    per_seed = [_metrics(table) for table in runs]
    columns = {name: np.mean([one[name] for one in per_seed], axis=0) for name in per_seed[0]}
    return pl.DataFrame({"user_id": [f"u{n:04d}" for n in range(len(runs[0]))], **columns})


def _row(name: str, runs: list[NDArray[np.float64]], resamples: int) -> SystemRow:
    frame = _frame(runs).drop("user_id")
    estimates = bootstrap_means(frame.to_numpy(), resamples, 0)
    return SystemRow(
        name,
        len(runs[0]),
        dict(zip(frame.columns, estimates, strict=True)),
        tie_rate=0.031 if name == "popularity" else 0.0,
        by_seed={
            metric: tuple(float(_metrics(table)[metric].mean()) for table in runs) for metric in frame.columns
        },
    )


def _table(sampler: str, scores: dict[str, list[NDArray[np.float64]]], resamples: int) -> MetricTable:
    rows = {name: _row(name, runs, resamples) for name, runs in scores.items()}
    frames = {name: _frame(runs) for name, runs in scores.items()}
    metrics = list(rows["random"].metrics)
    for metric in metrics:
        best = max(rows, key=lambda name: rows[name].metrics[metric].mean)
        for test in paired_tests(
            frames, with_reference(list(rows), best), [metric], resamples=100, flips=500
        ):
            row = rows[test.second]
            rows[test.second] = replace(row, p_against_best={**row.p_against_best, metric: test.p_holm})
    if sampler == "uniform":
        for name in ("itemknn", "tfidf", "bm25", "sasrec", "sasrec_text"):
            exact = {metric: rows[name].metrics[metric].mean - 0.004 for metric in ("Recall@3", MEASURE)}
            rows[name] = replace(rows[name], exact=exact)
    ranked = sorted(rows, key=lambda name: -rows[name].metrics[MEASURE].mean)
    pairs = [(ranked[0], ranked[1]), (MODEL, BASELINE), (FUSED, MODEL), (FUSED, BASELINE)]
    tests = paired_tests(frames, list(dict.fromkeys(pairs)), [MEASURE], resamples=resamples, flips=2000)
    note = "Drawn once for each user and frozen." if sampler == "uniform" else ""
    return MetricTable(sampler, NEGATIVES + 1, tuple(rows.values()), tests, _slices(frames, resamples), note)


def _slices(frames: dict[str, pl.DataFrame], resamples: int) -> tuple[Slice, ...]:
    slices = []
    rules = {
        "cold": "the target stands in no training history",
        "rare": "the target is among the least taken items",
        "popular": "the target is among the most taken items",
        "repeat": "the target is in the user’s history",
        "short history": "the history is not longer than the median",
        "long history": "the history is longer than the median",
    }
    for place, (name, rule) in enumerate(rules.items()):
        chosen = np.arange(place, 300, 3 + 4 * (place in (0, 3)))
        values = {}
        for system, frame in frames.items():
            rows = frame[MEASURE].to_numpy()
            [values[system]] = bootstrap_means(rows[chosen[chosen < len(rows)]][:, None], resamples, 0)
        slices.append(Slice(name, rule, int((chosen < 300).sum()), values))
    return tuple(slices)


def _scaled(row: SystemRow, factor: float) -> SystemRow:
    metrics = {
        name: replace(value, mean=value.mean * factor, low=value.low * factor, high=value.high * factor)
        for name, value in row.metrics.items()
        if name.endswith("@10")
    }
    return SystemRow(row.system, row.users, metrics)


def _catalogue(table: MetricTable) -> MetricTable:
    rows = [_scaled(row, 0.15) for row in table.rows if row.system not in (MODEL, FUSED, "din")]
    rows[0] = replace(
        rows[0],
        beyond={
            "Coverage@10": Estimate(0.987, math.nan, math.nan),
            "Serendipity@10": Estimate(0.0123, 0.004, 0.0321),
            "Novelty@10": Estimate(11.75, 11.5, 12.25),
        },
    )
    return MetricTable("catalogue", ITEMS, tuple(rows), note="DIN and the language model score pairs only.")


def _two_stage(table: MetricTable) -> TwoStage:
    rows = [_scaled(row, 0.17) for row in table.rows if row.system in (MODEL, FUSED, BASELINE)]
    [ceiling] = bootstrap_means(np.array([[1.0]] * 137 + [[0.0]] * 163), 200, 0)
    return TwoStage(BASELINE, 100, ceiling, tuple(rows))


def _calibration(
    name: str, scores: dict[str, dict[str, list[NDArray[np.float64]]]], sharpness: float
) -> SystemCalibration:
    table = scores["uniform"][name][0]
    odds = 1.6 * sharpness * table - 3.0
    p = 1 / (1 + np.exp(-odds))
    users = [f"u{n:04d}" for n in range(len(p))]
    rows = pl.DataFrame(
        {
            "user_id": np.repeat(users, p.shape[1]),
            "item_id": [f"i{n}" for n in range(p.shape[1])] * len(p),
            "score": p.ravel(),
        }
    )
    candidates = pl.DataFrame({"user_id": users, "target": ["i0"] * len(users)})
    return SystemCalibration(name, calibrate(candidates, rows, 100, 0), "20 uniform negatives a target")


def _agreement(frames: dict[str, pl.DataFrame]) -> Agreement:
    shared = hit_matrix(frames, "Recall@3")
    return Agreement("uniform", 3, 300, tuple(frames), tuple(tuple(map(float, row)) for row in shared))


TITLES = (
    "Stainless countersunk wood screws, 200 pieces", "Cordless drill with two batteries",
    "Sandpaper sheets, assorted grits", "Garden hose, half-inch, 20 m", "Brass hose connector set",
    "Digital caliper, 150 mm", "Silicone sealant, clear", "Safety goggles, anti-fog",
    "Work gloves, nitrile coated", "LED head torch, rechargeable",
)  # fmt: skip


def _case(number: int, ahead: bool) -> UserCase:
    target = TITLES[number]
    near = tuple(
        RankedItem(title, 0.83 - 0.07 * place, title == target) for place, title in enumerate(TITLES[:5])
    )
    far = tuple(RankedItem(title, 7.1 - place) for place, title in enumerate(TITLES[5:]))
    ranks = (number + 1.0, 14.0) if ahead else (17.5, number + 1.0)
    tops = (near, far) if ahead else (far, near)
    return UserCase(
        user_id=f"{'win' if ahead else 'loss'}-{number}",
        history=tuple(f"{title} (no. {number})" for title in TITLES[2:]),
        target=target,
        rankings=tuple(
            RankedList(name, rank, top, NEGATIVES + 1)
            for name, rank, top in zip((MODEL, BASELINE), ranks, tops, strict=True)
        ),
        summary=f"User {number} repairs things at home: fasteners first, lately garden tools.",
    )


def _provenance() -> Provenance:
    options = tuple(Option(f"hidden {size}, layers {layers}", 0.7 + size / 1000 - layers / 100)
                    for size in (32, 64, 128) for layers in (1, 2))  # fmt: skip
    return Provenance(
        command="trsr compare --config examples/demo.yaml --set seed=0",
        config="name: demo\nseed: 0\ncomparison:\n  seeds: [0, 1, 2]\n",
        seeds=SEEDS,
        split_seed=7,
        versions={"trsr": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        hashes={"candidates (uniform)": "ab" * 32, "candidates (popularity)": "cd" * 32},
        users={"train": 2411, "valid": 301, "test": 300},
        choices=(
            Choice("settings of SASRec", "NDCG@10, uniform", options, "hidden 128, layers 1"),
            Choice(
                "form of the language model",
                "NDCG@10, uniform",
                (Option("recurrent", 0.611), Option("hierarchical", 0.597), Option("whole history", None)),
                "recurrent",
            ),
        ),
        seconds=5_211.0,
        test="Paired sign-flip permutation test, 10,000 flips; Holm’s correction within a table.",
    )
