"""Outside systems: scores of the frozen candidates that `trsr import` put into the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, read_parquet
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import Floats, ScoreInfo, SeedScores, SystemScores
from trsr.interop.candidates import imported_path
from trsr.records import ITEM, SCORE, USER, Split
from trsr.report.comparison.results import Kind

OUTSIDE: Final = "outside"
"""Detail on the card of an outside system."""


def imported_names(folder: RunFolder) -> tuple[str, ...]:
    """Return the names of all outside systems of a run."""
    return tuple(sorted(path.stem for path in imported_path(folder, "any").parent.glob("*.parquet")))


def outside_systems(
    config: Config, protocol: EvaluationProtocol, names: Sequence[str], say: Callable[[str], None]
) -> list[SystemScores]:
    """Read the scores of the outside systems named.

    A sampler whose candidates a system has not scored is left out of its scores, and said so; a system
    that has not scored the validation users takes part in no choice.
    """
    folder = RunFolder(config.folder)
    systems = []
    for name in names:
        rows = read_parquet(imported_path(folder, name)).select(USER, ITEM, SCORE)
        scores: dict[Split, dict[Sampler, Floats]] = {}
        for split, data in protocol.splits.items():
            found = {
                sampler: table
                for sampler in data.candidates
                if (table := _looked_up(rows, protocol, split, sampler)) is not None
            }
            if found:
                scores[split] = found
        missing = [sampler for sampler in protocol.samplers if sampler not in scores.get(Split.TEST, {})]
        if missing:
            say(
                f"{name}: has no scores of the {', '.join(missing)} candidates; `trsr export`, score those "
                "pairs and `trsr import` again to have them in the table"
            )
        if Split.TEST in scores:
            card = ScoreInfo(negatives="not known", details={OUTSIDE: True})
            systems.append(SystemScores(name, Kind.BASELINE, (config.seed,), (SeedScores(scores, {}, card),)))
    return systems


def _looked_up(
    rows: pl.DataFrame, protocol: EvaluationProtocol, split: Split, sampler: Sampler
) -> Floats | None:
    """Find the scores of one sampler's candidates; None when one is missing."""
    data = protocol.splits[split]
    candidates = data.candidates[sampler]
    pairs = pl.DataFrame(
        {
            USER: np.repeat(np.array(data.users, dtype=object), candidates.shape[1]).tolist(),
            ITEM: protocol.prepared.items[ITEM].gather(candidates.ravel()),
        },
        schema={USER: pl.String, ITEM: pl.String},
    )
    found = pairs.join(rows, on=[USER, ITEM], how="left", maintain_order="left")[SCORE]
    if found.null_count():
        return None
    return found.to_numpy().astype(np.float64).reshape(candidates.shape)
