"""What a finished run gains from computing each user's prefix once: the same scores, the time of both ways.

python benchmarks/finished_run.py runs/demo
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from trsr.artifacts import RunFolder, read_parquet
from trsr.config import load
from trsr.data.dataset import Catalogue
from trsr.data.prepare import load as load_prepared
from trsr.ranking.ranker import Ranker
from trsr.ranking.shared_prefix.strategy import Path as Way
from trsr.ranking.shared_prefix.strategy import Plan
from trsr.ranking.training import fine_tune, recall_sum
from trsr.records import Split
from trsr.stages.train import ranking_tasks

TRAINED_USERS = 400


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of one call, and what it returned."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def main() -> None:
    """Score the run's test users and train one epoch, both ways, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder of a finished run")
    folder = RunFolder(parser.parse_args().run_dir)
    torch.set_num_threads(1)
    config, prepared = load(folder.config), load_prepared(folder)
    summaries, catalogue = read_parquet(folder.summaries), Catalogue(prepared.items, config.ranking_fields)
    test = ranking_tasks(prepared, summaries, catalogue, Split.TEST)
    train = ranking_tasks(prepared, summaries, catalogue, Split.TRAIN)[:TRAINED_USERS]
    epoch = config.training.model_copy(update={"epochs": 1})
    seconds, scores = [], []
    for way in (Way.PLAIN, Way.PACKED):
        ranker = Ranker.load(folder.model)
        if ranker.plan.path is not Way.PACKED:
            raise SystemExit(ranker.plan.reason)
        if way is Way.PLAIN:
            ranker.plan = Plan(Way.PLAIN, False, "for comparison")
        ranker.encode(test)
        scoring, p_yes = cpu_seconds(lambda ranker=ranker: ranker.score(test))
        with tempfile.TemporaryDirectory() as scratch:
            training, _ = cpu_seconds(
                lambda ranker=ranker, scratch=scratch: fine_tune(ranker, train, [], epoch, Path(scratch), 0)
            )
        seconds.append((scoring, training))
        scores.append(p_yes)
    (plain, plain_training), (packed, packed_training) = seconds
    targets = [task.target or 0 for task in test]
    difference = max(float(abs(one - other).max()) for one, other in zip(*scores, strict=True))
    print(f"scoring {len(test)} users: {plain:.2f} and {packed:.2f} CPU s, {plain / packed:.1f}x")
    print(f"one epoch of {len(train)} users: {plain_training:.2f} and {packed_training:.2f} CPU s, ", end="")
    print(f"{plain_training / packed_training:.1f}x")
    print(f"largest difference of p(yes): {difference:.1e}; Recall@3+5+10 ", end="")
    print(" and ".join(f"{recall_sum(part, targets):.4f}" for part in scores))


if __name__ == "__main__":
    main()
