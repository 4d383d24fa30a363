"""A run's scores become its metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trsr.artifacts import write_json
from trsr.config import Config
from trsr.evaluation.metrics import metrics_at
from trsr.evaluation.scoreboard import Result, summarise, to_json
from trsr.evaluation.statistics import average_seeds
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import SystemScores, sampled_frames
from trsr.records import Split
from trsr.registry import METRICS, identity
from trsr.stages.work import Artifact, Made, Work


def evaluate(
    work: Work, protocol: EvaluationProtocol, systems: Sequence[SystemScores]
) -> Artifact[dict[str, Any]]:
    """Measure every system on the validation and the test users, among the run's own candidates."""
    path = work.folder.metrics

    def make(config: Config) -> Made:
        results = {system.name: measure(config, protocol, system) for system in systems}
        write_json(to_json(results, config.candidates), path)
        k = config.evaluation.ks[0]
        for name, by_split in results.items():
            recall = by_split[Split.TEST.value].metrics[f"Recall@{k}"]
            work.say(f"  {name}: test Recall@{k} {recall.mean:.3f} [{recall.low:.3f}, {recall.high:.3f}]")
        return Made([path])

    return work.step(
        "evaluate",
        "compute metrics with intervals",
        make,
        lambda made: json.loads(made.path.read_text(encoding="utf-8")),
        settings=("seed", "evaluation.ks", "evaluation.metrics", "evaluation.bootstrap", "candidates"),
        content=[
            protocol.digest,
            [identity("metric", name, METRICS) for name in work.config.evaluation.metrics],
            [[system.name, *(run.digest for run in system.runs)] for system in systems],
        ],
    )


def measure(config: Config, protocol: EvaluationProtocol, system: SystemScores) -> dict[str, Result]:
    """Measure one system among the run's own candidates, by the name of the split."""
    sampler, evaluation = protocol.samplers[0], config.evaluation
    metrics = metrics_at(evaluation.ks, evaluation.metrics)
    return {
        split.value: summarise(
            average_seeds(sampled_frames(system, protocol, split, sampler, metrics)),
            evaluation.bootstrap,
            config.seed,
        )
        for split in protocol.splits
    }
