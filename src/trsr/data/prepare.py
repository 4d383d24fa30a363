"""From a configuration to what every later stage reads: items, histories with targets, frozen candidates."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json, write_parquet
from trsr.config import Config
from trsr.data.dataset import Dataset
from trsr.data.negatives import draw_candidates
from trsr.data.read import read
from trsr.data.split import split_users
from trsr.data.window import apply_window, too_short
from trsr.errors import ArtifactError, DataError
from trsr.records import HISTORY, ITEMS, SPLIT, TARGET, TIMES, USER, Finding, Split


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run works on.

    Parameters
    ----------
    items
        `ITEM`, then one String column per text field.
    histories
        `USER`, `SPLIT`, `HISTORY` (without the target) and `TARGET`, by rising user id.
    candidates
        `USER`, `SPLIT`, `TARGET`, `CANDIDATES` (the target among them), and the seed
        and the sampler that they were drawn with, in the same order.
    background
        `USER` and `ITEMS`, oldest first: users whom the window leaves out as too short. Models learn
        from them; nobody is measured on them.
    findings
        What was noticed, repaired or left out on the way.
    """

    items: pl.DataFrame
    histories: pl.DataFrame
    candidates: pl.DataFrame
    background: pl.DataFrame
    findings: tuple[Finding, ...]


def prepare(config: Config) -> Prepared:
    """Read the data, choose users, split them and draw candidates.

    Parameters
    ----------
    config
        Its `data`, `history`, `split`, `candidates` and `seed` are used.

    Raises
    ------
    DataError
        When the data can't be read, no user is left, a part of the split would be
        empty, or the catalogue is too small; with what was noticed until then.

    Examples
    --------
    >>> from trsr.config.data import DemoData
    >>> prepared = prepare(Config(data=DemoData(users=100, items=100)))
    >>> prepared.candidates["candidates"].list.len().unique().to_list()
    [21]
    """
    dataset, noticed = read(config.data)
    return choose(dataset, noticed, config)


def choose(dataset: Dataset, noticed: tuple[Finding, ...], config: Config) -> Prepared:
    """Do all of `prepare` that comes after reading; `noticed` are the findings of the reader.

    Raises
    ------
    DataError
        As `prepare`.
    """
    kept, windowed = apply_window(dataset.histories, config.history)
    try:
        histories, candidates, background = _chosen(dataset, kept, config)
    except DataError as error:
        error.findings = (*noticed, *windowed, *error.findings)
        raise
    findings = (*noticed, *windowed, *_repeated_targets(histories))
    return Prepared(dataset.items, histories, candidates, background, findings)


def _chosen(
    dataset: Dataset, kept: pl.DataFrame, config: Config
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    if kept.is_empty():
        longest = max(dataset.histories[ITEMS].list.len(), default=0)
        message = (
            f"no user is left: history.min is {config.history.min} interactions, and the longest of "
            f"{dataset.histories.height:,} histories has {longest}; lower history.min"
        )
        raise DataError(message)
    divided = split_users(kept.sort(USER), config.split, config.seed)
    last = pl.col(ITEMS).list.len() - 1
    histories = divided.select(
        USER,
        SPLIT,
        pl.col(ITEMS).list.head(last).alias(HISTORY),
        pl.col(ITEMS).list.last().alias(TARGET),
    )
    background = _background(dataset.histories, divided, config)
    candidates = draw_candidates(histories, dataset.items, config.candidates, config.seed, background)
    return histories, candidates, background


def save(prepared: Prepared, folder: RunFolder) -> None:
    """Write everything into the run folder."""
    write_parquet(prepared.items, folder.items)
    write_parquet(prepared.histories, folder.histories)
    write_parquet(prepared.candidates, folder.candidates)
    write_parquet(prepared.background, folder.background)
    write_json([asdict(finding) for finding in prepared.findings], folder.findings)


def load(folder: RunFolder) -> Prepared:
    """Read what `save` wrote.

    Raises
    ------
    ArtifactError
        When a file is missing or damaged.
    """
    items, histories, candidates, background = (
        read_parquet(folder.require(path, "prepare"))
        for path in (folder.items, folder.histories, folder.candidates, folder.background)
    )
    path = folder.require(folder.findings, "prepare")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        findings = tuple(Finding(**row | {"examples": tuple(row["examples"])}) for row in rows)
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path}: not a list of findings ({error}); run `trsr prepare` again"
        raise ArtifactError(message) from error
    return Prepared(items, histories, candidates, background, findings)


def _background(histories: pl.DataFrame, divided: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Find the users who only train; when the split goes by time, only what came before it."""
    if not config.history.background:
        return histories.clear().select(USER, ITEMS)
    short = too_short(histories, config.history)
    if config.split.by == "time":
        measured = divided.filter(pl.col(SPLIT) != Split.TRAIN)
        first = measured.select(pl.col(TIMES).list.last().min()).item()
        short = short.filter(pl.col(TIMES).list.last() < first)
    return short.select(USER, ITEMS).sort(USER)


def _repeated_targets(histories: pl.DataFrame) -> tuple[Finding, ...]:
    repeated = histories.filter(pl.col(HISTORY).list.contains(pl.col(TARGET)))
    if repeated.is_empty():
        return ()
    examples = repeated.head(5).select(USER, TARGET).iter_rows()
    message = (
        f"{repeated.height:,} of {histories.height:,} users have a target that they took before; negatives "
        "never are, so that such targets can be told by that alone"
    )
    listed = tuple(f"user {user}: item {item}" for user, item in examples)
    return (Finding("repeated-target", message, repeated.height, "noted", listed),)
