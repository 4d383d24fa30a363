"""What every system of a comparison is asked: one split, and for each sampler the same frozen candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, hash_path, hash_value, read_parquet, write_parquet
from trsr.baselines.base import TrainingData, candidate_places, places, training_data
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared, load
from trsr.errors import ArtifactError
from trsr.pipeline import run
from trsr.records import CANDIDATES, HISTORY, ITEM, ITEMS, SPLIT, TARGET, USER, Split

MEASURED: Final = (Split.VALID, Split.TEST)
"""Splits that are scored: choices are made on the first, figures of the second are told."""

Ints = NDArray[np.int64]
Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Panel:
    """The users of one split and what they are asked about, items as places in the catalogue.

    Parameters
    ----------
    users
        Ids, rising.
    histories
        What each took before the target, oldest first.
    targets
        The item to be found, ``(n_users,)``.
    candidates
        Sampler to the frozen candidates, ``(n_users, n_candidates)``.
    columns
        Sampler to the target's column among them, ``(n_users,)``.
    """

    users: tuple[str, ...]
    histories: tuple[Places, ...]
    targets: Places
    candidates: Mapping[Sampler, Places]
    columns: Mapping[Sampler, Ints]


@dataclass(frozen=True, slots=True)
class Contest:
    """One split and its candidates, the same for every system and seed.

    Parameters
    ----------
    prepared
        The run's data, with the candidates of the run's own sampler.
    data
        What systems without a language model learn from.
    samplers
        The run's own sampler first: choices on validation go by it.
    hashes
        File to SHA-256, of everything that the panels were made of.
    """

    prepared: Prepared
    data: TrainingData
    panels: Mapping[Split, Panel]
    samplers: tuple[Sampler, ...]
    hashes: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Hash of the data and of all candidates."""
        return hash_value(dict(self.hashes))


def open_contest(config: Config, say: Callable[[str], None] = print) -> Contest:
    """Prepare the run's data unless it is there, and freeze the candidates of every sampler.

    The data goes to the run's folder, other samplers' candidates beneath ``comparison``. Raises `DataError`
    when the data can't be read, or the catalogue is too small.
    """
    folder = run(config, until="prepare", say=say)
    prepared = load(folder)
    samplers = tuple(dict.fromkeys((config.candidates.sampler, *config.comparison.samplers)))
    frames = {sampler: _frozen(config, prepared, sampler, folder) for sampler in samplers}
    return Contest(
        prepared=prepared,
        data=training_data(prepared, config.items.fields),
        panels={split: _panel(prepared, frames, split) for split in MEASURED},
        samplers=samplers,
        hashes=_hashes(folder, samplers, config),
    )


def candidates_path(folder: RunFolder, sampler: Sampler, config: Config) -> Path:
    """Say where the candidates of one sampler are frozen."""
    own = sampler == config.candidates.sampler
    return folder.candidates if own else folder.path / "comparison" / f"candidates_{sampler}.parquet"


def require_same_candidates(contest: Contest, folder: RunFolder) -> None:
    """Refuse a run that was prepared to other users or candidates than the comparison's.

    Raises `ArtifactError`, naming the file that differs.
    """
    for path in (folder.items, folder.histories, folder.candidates, folder.background):
        if hash_path(path) != contest.hashes[path.name]:
            message = (
                f"{path} is not what the comparison was started with; delete {folder.path} and compare again"
            )
            raise ArtifactError(message)


def _hashes(folder: RunFolder, samplers: Sequence[Sampler], config: Config) -> dict[str, str]:
    own = (folder.items, folder.histories, folder.candidates, folder.background)
    drawn = (
        candidates_path(folder, sampler, config)
        for sampler in samplers
        if sampler != config.candidates.sampler
    )
    return {path.name: hash_path(path) for path in (*own, *drawn)}


def _frozen(config: Config, prepared: Prepared, sampler: Sampler, folder: RunFolder) -> pl.DataFrame:
    """Draw one sampler's candidates and write them; drawing again gives the same ones."""
    if sampler == config.candidates.sampler:
        return prepared.candidates
    rule = config.candidates.model_copy(update={"sampler": sampler})
    drawn = draw_candidates(prepared.histories, prepared.items, rule, config.seed, prepared.background)
    frame = drawn.filter(pl.col(SPLIT) != Split.TRAIN.value).sort(USER)
    path = candidates_path(folder, sampler, config)
    if not (path.exists() and read_parquet(path).equals(frame)):
        write_parquet(frame, path)
    return frame


def _panel(prepared: Prepared, frames: Mapping[Sampler, pl.DataFrame], split: Split) -> Panel:
    ids = prepared.items[ITEM]
    users = prepared.histories.filter(pl.col(SPLIT) == split.value).sort(USER)
    targets = np.concatenate(places(users.select(pl.concat_list(TARGET).alias(ITEMS))[ITEMS], ids))
    candidates: dict[Sampler, Places] = {}
    for sampler, frame in frames.items():
        rows = users.select(USER).join(
            frame.select(USER, CANDIDATES), on=USER, how="left", maintain_order="left"
        )
        candidates[sampler] = candidate_places(rows[CANDIDATES], ids)
    return Panel(
        users=tuple(users[USER]),
        histories=tuple(places(users[HISTORY], ids)),
        targets=targets,
        candidates=candidates,
        columns={
            sampler: np.argmax(rows == targets[:, None], axis=1).astype(np.int64)
            for sampler, rows in candidates.items()
        },
    )
