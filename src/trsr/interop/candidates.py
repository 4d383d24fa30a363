"""What a run has frozen for everybody: histories, the candidates of every sampler, the scores so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trsr.artifacts import RunFolder, read_parquet
from trsr.data.candidates import SAMPLER
from trsr.data.prepare import Prepared, load
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, TARGET, USER, Split


@dataclass(frozen=True, slots=True)
class Frozen:
    """A run as other tools see it.

    `candidates` is the name of a sampler, the run's own first, to `USER`, `SPLIT`, `TARGET` and
    `CANDIDATES` of the measured users, by rising user id.
    """

    prepared: Prepared
    candidates: Mapping[str, pl.DataFrame]

    def pairs(self, sampler: str) -> pl.DataFrame:
        """Give the pairs of one sampler: `USER`, `SPLIT`, `ITEM` and whether it is the `TARGET`.

        Their order is that of the frozen candidates, which was shuffled user by user, so that
        whoever breaks ties by it breaks them by chance.
        """
        return (
            self.candidates[sampler]
            .select(USER, SPLIT, TARGET, pl.col(CANDIDATES).alias(ITEM))
            .explode(ITEM)
            .select(USER, SPLIT, ITEM, (pl.col(ITEM) == pl.col(TARGET)).alias(TARGET))
        )

    def all_pairs(self) -> pl.DataFrame:
        """Give `USER`, `SPLIT` and `ITEM` of all samplers' pairs, each once."""
        every = [self.pairs(sampler).select(USER, SPLIT, ITEM) for sampler in self.candidates]
        return pl.concat(every).unique(maintain_order=True)


def open_frozen(folder: RunFolder) -> Frozen:
    """Read a run's data, and the candidates of further samplers where a comparison has drawn them.

    Raises ArtifactError when the run is not prepared, or a file is damaged.
    """
    prepared = load(folder)
    further = sorted((folder.path / "comparison").glob("candidates_*.parquet"))
    candidates = {}
    for frame in (prepared.candidates, *map(read_parquet, further)):
        measured = frame.filter(pl.col(SPLIT) != Split.TRAIN.value).sort(USER)
        if measured.height:
            candidates[str(measured[SAMPLER][0])] = measured.select(USER, SPLIT, TARGET, CANDIDATES)
    return Frozen(prepared, candidates)


def system_scores(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read the scores that lie in the run folder: its own, the baselines', and all that were imported.

    Name to `USER`, `ITEM` and `SCORE`; empty for a run that has scored nothing yet.
    """
    own = {path.stem: read_parquet(path) for path in sorted(folder.scores.glob("*.parquet"))}
    # Rows of the run's own sampler come first: what a fused ranker says depends on how candidates were drawn.
    found = {
        name: rows.unique([USER, ITEM], keep="first", maintain_order=True).select(USER, ITEM, SCORE)
        for name, rows in own.items()
    }
    return found | imported_scores(folder)


def imported_scores(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read what `trsr import` has put into the run folder: name to `USER`, `ITEM` and `SCORE`, by name."""
    files = sorted(imported_path(folder, "").parent.glob("*.parquet"))
    return {file.stem: read_parquet(file).select(USER, ITEM, SCORE) for file in files}


def imported_path(folder: RunFolder, name: str) -> Path:
    """Say where the scores of an outside system lie."""
    return folder.path / "imported" / f"{name}.parquet"
