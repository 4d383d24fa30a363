"""New events for the users of a finished run: summaries go on, the run's own figures stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.config import Config, load
from trsr.config.summary import KeyphraseWriter
from trsr.data.catalogue import Catalogue
from trsr.errors import DataError
from trsr.records import (
    BLOCK_SUMMARIES,
    FAILED,
    HISTORY,
    ITEM,
    STATE,
    SUMMARY,
    TIME,
    USER,
    Summary,
    Usage,
    UserSummary,
)
from trsr.summarize.append import Growth
from trsr.summarize.summarizer import Summarizer, cut_history
from trsr.summarize.table import to_frame

_READERS: Final = {".csv": pl.read_csv, ".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson}


def append_events(run_dir: Path, events: Path) -> list[UserSummary]:
    """Bring the summaries of the users in `events` up to date.

    The longer histories and the new summaries go to ``appended.parquet`` in the run
    folder, from which `Recommender.rank_user` serves and later events go on. What the
    run has measured stays as it was: its own tables aren't touched. The run's held-out
    targets are in no history; put them into the events where they did happen.

    Parameters
    ----------
    run_dir
        A run folder with summaries.
    events
        A table (.csv, .parquet, .jsonl) with ``user_id`` and ``item_id``, oldest first,
        or with a column ``time`` to sort by. Users that the run doesn't know are new.

    Returns
    -------
    list of UserSummary
        Of the users in `events`, in the order of their first one; `usage` is what the
        new blocks cost.

    Raises
    ------
    DataError
        When it is no run folder, or the events can't be read or name unknown items.
    ArtifactError
        When the run has no summaries.
    WriterError
        When the writer gives up; nothing was appended then, and paid answers are stored.
    """
    folder = RunFolder(run_dir)
    if not folder.config.exists():
        message = f"{run_dir}: not a run folder (it has no config.yaml); make one with `trsr run`"
        raise DataError(message)
    config = load(folder.config).model_copy(update={"out": folder.path})
    items = read_parquet(folder.require(folder.items, "prepare"))
    catalogue = Catalogue(items, config.items.fields)
    histories = _newest(folder, folder.require(folder.histories, "prepare"))
    summaries = _newest(folder, folder.require(folder.summaries, "summarize"))
    new = _read_events(events)
    before = {user: list(histories[user][HISTORY]) if user in histories else [] for user in new}
    growths = [
        _growth(config, catalogue, user, summaries.get(user), before[user], [*before[user], *added])
        for user, added in new.items()
    ]
    with Summarizer(config, items.select(ITEM, *catalogue.fields)) as summarizer:
        written = summarizer.append(growths)
    _save(folder, written, {user: [*before[user], *added] for user, added in new.items()})
    return written


def _growth(
    config: Config,
    catalogue: Catalogue,
    user: str,
    row: Mapping[str, Any] | None,
    before: Sequence[str],
    after: Sequence[str],
) -> Growth:
    old, now = (cut_history(list(catalogue.items(ids)), config) for ids in (before, after))
    # The table keeps the state of the last summary alone; the keyphrase writer, which calls no model and
    # needs every block's, reads the history again.
    if row is None or row.get(FAILED) or isinstance(config.summary.writer, KeyphraseWriter):
        return Growth(UserSummary.empty(user), (), now)
    steps = tuple(Summary(text) for text in row[BLOCK_SUMMARIES])
    return Growth(UserSummary(user, Summary(row[SUMMARY], row[STATE]), steps, Usage()), old, now)


def _newest(folder: RunFolder, path: Path) -> dict[str, dict[str, Any]]:
    """Read a table's rows by user, those that were appended over those of the run."""
    rows = {row[USER]: row for row in read_parquet(path).iter_rows(named=True)}
    if folder.appended.exists():
        rows |= {row[USER]: row for row in read_parquet(folder.appended).iter_rows(named=True)}
    return rows


def _read_events(path: Path) -> dict[str, list[str]]:
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        message = f"{path}: must be one of {', '.join(_READERS)}, got {path.suffix!r}"
        raise DataError(message)
    try:
        frame = reader(path)  # type: ignore[operator]
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path}: can't be read as {path.suffix}: {error}"
        raise DataError(message) from error
    missing = [name for name in (USER, ITEM) if name not in frame.columns]
    if missing or frame.select(pl.any_horizontal(pl.col(USER, ITEM).is_null().any())).item():
        message = f"{path}: needs the columns {USER} and {ITEM}, without gaps, got {', '.join(frame.columns)}"
        raise DataError(message)
    if TIME in frame.columns:
        frame = frame.sort(TIME, maintain_order=True)
    events: dict[str, list[str]] = {}
    for user, item in frame.select(pl.col(USER, ITEM).cast(pl.String)).iter_rows():
        events.setdefault(user, []).append(item)
    return events


def _save(folder: RunFolder, written: Sequence[UserSummary], histories: Mapping[str, list[str]]) -> None:
    """Write summaries and histories as one table: a kill leaves both as they were, or both new."""
    column = pl.Series(HISTORY, [histories[summary.user_id] for summary in written], dtype=pl.List(pl.String))
    new = to_frame(written).with_columns(column)
    if folder.appended.exists():
        kept = read_parquet(folder.appended).filter(~pl.col(USER).is_in(new[USER].implode()))
        new = pl.concat([kept, new], how="vertical")
    write_parquet(new, folder.appended)
