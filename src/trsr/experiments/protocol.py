"""What every system is asked: one split, and for each sampler the same frozen candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, hash_path, hash_value, read_parquet, write_parquet
from trsr.baselines.training_data import (
    TrainingData,
    candidate_places,
    places,
    positive_places,
    training_data,
)
from trsr.config import Config
from trsr.config.evaluation import Drawn, Sampler
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared
from trsr.errors import ConfigError
from trsr.records import (
    CANDIDATES,
    HISTORY,
    ITEM,
    ITEMS,
    MEASURED,
    PERSON,
    POSITIVES,
    SPLIT,
    TARGET,
    USER,
    Split,
)
from trsr.stages.work import Artifact, Work

_DRAWN: Final = get_args(Drawn)

Ints = NDArray[np.int64]
Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SplitData:
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
    persons
        Whose each row is, where users have several; empty elsewhere.
    positives
        Of impressions, which candidates are to be found, ``(n_users, n_candidates)``; `targets` are the
        first of them.
    """

    users: tuple[str, ...]
    histories: tuple[Places, ...]
    targets: Places
    candidates: Mapping[Sampler, Places]
    columns: Mapping[Sampler, Ints]
    persons: tuple[str, ...] = ()
    positives: NDArray[np.bool_] | None = None

    def hidden(self, keeps_history: bool, rows: slice = slice(None)) -> Sequence[Places]:
        """Give what leaves the ranking of the catalogue: the histories, or nothing where these stay in it."""
        return [history[:0] for history in self.histories[rows]] if keeps_history else self.histories[rows]


@dataclass(frozen=True, slots=True)
class EvaluationProtocol:
    """One split and its candidates, the same for every system and seed.

    Parameters
    ----------
    config
        The settings that it was made by.
    prepared
        The run's data, with the candidates of the run's own sampler.
    data
        What systems without a language model learn from.
    samplers
        Those of the test users, the run's own first: choices on validation go by it.
    hashes
        File to SHA-256, of everything that the splits were made of.
    digest
        Hash of the data and of all candidates.

    What a row is, the settings say: `config.split`.
    """

    config: Config
    prepared: Prepared
    data: TrainingData
    splits: Mapping[Split, SplitData]
    samplers: tuple[Sampler, ...]
    hashes: Mapping[str, str]
    digest: str


def require_users(config: Config, command: str) -> None:
    """Raise `ConfigError` for a command that knows users alone, where the protocol is one of rows."""
    if config.split.protocol != "users":
        message = (
            f"{command} works with split.protocol: users, got {config.split.protocol}: what is served or "
            "varied is told of users with one target each; measure rows with `trsr compare`"
        )
        raise ConfigError(message)


def run_protocol(config: Config, prepared: Artifact[Prepared]) -> EvaluationProtocol:
    """Ask the run's own candidates; see `protocol_of`."""
    both = bool(config.fusion.companions)
    return protocol_of(config, prepared.value, prepared.digest, _hashes(prepared), both=both)


def protocol_of(
    config: Config,
    prepared: Prepared,
    digest: str = "",
    hashes: Mapping[str, str] | None = None,
    *,
    both: bool = True,
) -> EvaluationProtocol:
    """Ask the candidates that the data was prepared with.

    Validation users, by whom a fused ranker learns, are asked those of `both` samplers where they are drawn.
    """
    own: Sampler = config.candidates.sampler
    other: Sampler = "popularity" if own == "uniform" else "uniform"
    frames, learnt_from = {own: prepared.candidates}, [own]
    if both and own in _DRAWN:
        frames[other] = _drawn(config, prepared, other)
        learnt_from.append(other)
    samplers = {Split.VALID: learnt_from, Split.TEST: [own]}
    return _protocol(config, prepared, digest, frames, samplers, hashes or {})


def comparison_protocol(work: Work, prepared: Artifact[Prepared]) -> EvaluationProtocol:
    """Ask the candidates of all of `comparison.samplers`, which are frozen beneath ``comparison``."""
    config = work.config
    own: Sampler = config.candidates.sampler
    samplers = tuple(dict.fromkeys((own, *config.comparison.samplers))) if own in _DRAWN else (own,)
    frames, hashes = {own: prepared.value.candidates}, _hashes(prepared)
    for sampler in samplers[1:]:
        frames[sampler] = _drawn(config, prepared.value, sampler)
        path = candidates_path(work.folder, sampler)
        if not (path.exists() and read_parquet(path).equals(frames[sampler])):
            write_parquet(frames[sampler], path)
        hashes[path.name] = hash_path(path)
    asked = dict.fromkeys(MEASURED, samplers)
    return _protocol(config, prepared.value, prepared.digest, frames, asked, hashes)


def candidates_path(folder: RunFolder, sampler: Sampler) -> Path:
    """Say where the candidates of a sampler that isn't the run's own are frozen."""
    return folder.path / "comparison" / f"candidates_{sampler}.parquet"


def _protocol(
    config: Config,
    prepared: Prepared,
    digest: str,
    frames: Mapping[Sampler, pl.DataFrame],
    samplers: Mapping[Split, Sequence[Sampler]],
    hashes: Mapping[str, str],
) -> EvaluationProtocol:
    splits = {
        split: _split(prepared, {sampler: frames[sampler] for sampler in samplers[split]}, split)
        for split in MEASURED
    }
    drawn = [
        config.seed,
        config.split.protocol,
        config.candidates.negatives,
        {split: list(names) for split, names in samplers.items()},
    ]
    return EvaluationProtocol(
        config=config,
        prepared=prepared,
        data=training_data(prepared, config.items.fields, config.split),
        splits=splits,
        samplers=tuple(samplers[Split.TEST]),
        hashes=hashes,
        digest=hash_value([digest, drawn]),
    )


def _hashes(prepared: Artifact[Prepared]) -> dict[str, str]:
    tables = prepared.entry.outputs.items()
    return {Path(name).name: digest for name, digest in tables if name.endswith(".parquet")}


def _drawn(config: Config, prepared: Prepared, sampler: Sampler) -> pl.DataFrame:
    """Draw one sampler's candidates; drawing again gives the same ones."""
    rule = config.candidates.model_copy(update={"sampler": sampler})
    drawn = draw_candidates(prepared.histories, prepared.items, rule, config.seed, prepared.background)
    return drawn.filter(pl.col(SPLIT) != Split.TRAIN.value).sort(USER)


def _split(prepared: Prepared, frames: Mapping[Sampler, pl.DataFrame], split: Split) -> SplitData:
    ids = prepared.items[ITEM]
    users = prepared.histories.filter(pl.col(SPLIT) == split.value).sort(USER)
    targets = np.concatenate(
        [*places(users.select(pl.concat_list(TARGET).alias(ITEMS))[ITEMS], ids), np.empty(0, np.int32)]
    )
    candidates: dict[Sampler, Places] = {}
    for sampler, frame in frames.items():
        rows = users.select(USER).join(
            frame.select(USER, CANDIDATES), on=USER, how="left", maintain_order="left"
        )
        candidates[sampler] = candidate_places(rows[CANDIDATES], ids)
    return SplitData(
        users=tuple(users[USER]),
        histories=tuple(places(users[HISTORY], ids)),
        targets=targets,
        candidates=candidates,
        columns={
            sampler: np.argmax(rows == targets[:, None], axis=1).astype(np.int64)
            for sampler, rows in candidates.items()
        },
        persons=tuple(users[PERSON]) if PERSON in users.columns else (),
        positives=_positives(users, frames, candidates, ids),
    )


def _positives(
    users: pl.DataFrame,
    frames: Mapping[Sampler, pl.DataFrame],
    candidates: Mapping[Sampler, Places],
    ids: pl.Series,
) -> NDArray[np.bool_] | None:
    """Mark the positives among the candidates of impressions."""
    if "impressions" not in frames:
        return None
    told = users.select(USER).join(frames["impressions"], on=USER, how="left", maintain_order="left")
    return positive_places(candidates["impressions"], told[POSITIVES], ids)
