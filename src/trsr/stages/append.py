"""New events for the users of a finished run: summaries go on, the run's own figures stay as they are.

Events are read by the rules by which the run's own were: the same names of columns, formats, ids, times and
order of rows. An event is known when its user has taken its item in the same second; an event without a time
is known when all events without a time of its table were appended before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, hash_value, read_parquet, sweep, write_parquet
from trsr.config import Config
from trsr.config.data import FileData, TableData
from trsr.config.load import load_run
from trsr.config.summary import KeyphraseWriter, Limits
from trsr.data.catalogue import Catalogue
from trsr.data.ids import mended_ids
from trsr.data.notes import Notes
from trsr.data.prepare import Prepared, load
from trsr.data.readers.tables import column_names, read_events
from trsr.data.repair import SECOND, mend_events
from trsr.data.times import DAY_FIRST, MONTH_FIRST
from trsr.records import (
    BLOCK_SUMMARIES,
    FAILED,
    HISTORY,
    ITEM,
    STATE,
    SUMMARY,
    TIME,
    TIMES,
    USER,
    Summary,
    Usage,
    UserSummary,
)
from trsr.stages.prepare import tell
from trsr.stages.work import Say
from trsr.summarize.runner import Growth
from trsr.summarize.summarizer import Summarizer, cut_history
from trsr.summarize.writer import to_frame

_UNTIMED: Final = "untimed_tables"
"""Column of the appended table: hashes of the tables that gave a user events without a time."""
_KNOWN: Final = "events that the run or an earlier append holds are left out"
_LATE: Final = (
    "events older than the newest known one of their user are left out: histories grow at their end; prepare "
    "a run with all events to take them in"
)


@dataclass(frozen=True, slots=True)
class _User:
    """What is known of a user: items and their times (unix seconds; None where unknown), oldest first."""

    items: Sequence[str] = ()
    times: Sequence[int | None] = ()
    untimed: Sequence[str] = ()
    summary: Mapping[str, Any] | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether there is no summary, or it failed."""
        return self.summary is None or bool(self.summary.get(FAILED))


def append_events(
    run_dir: Path, events: Path, say: Say = lambda line: None, *, limits: Limits | None = None
) -> list[UserSummary]:
    """Bring the summaries of the users in `events` up to date.

    The longer histories and the new summaries go to ``appended.parquet`` in the run
    folder, from which `Recommender.rank_user` serves and later events go on. What the
    run has measured stays as it was: its own tables aren't touched. The run's held-out
    targets are in no history; put them into the events where they did happen.

    Events that are known already are left out, so that the same table twice changes nothing. Histories grow
    at their end alone: events older than the newest known one of their user are left out too. Both are said.

    Returned are the users who have new events, or whose last summary failed, in the order of their first
    event; `usage` is what the new blocks cost.

    Parameters
    ----------
    events
        A table in any format that own tables have. Its columns are called as the run's data settings say,
        or ``user_id``, ``item_id`` and ``time``. Without times its rows are taken oldest first. Users that
        the run doesn't know are new.
    limits
        The most that this call may pay; None for no cap. The run's own cap was for the run.

    Raises
    ------
    DataError
        When it is no run folder, or the events can't be read, or none has an item of the run.
    ArtifactError
        When the run has no summaries.
    BudgetError, WriterError
        When the cap is reached, or the writer gives up; nothing was appended then, and paid answers are
        stored.
    """
    folder = RunFolder(run_dir)
    config = load_run(folder.config, limits)
    sweep(folder.path)
    prepared = load(folder)
    catalogue = Catalogue(prepared.items, config.items.fields)
    users = _known_users(folder, prepared)
    notes = Notes()
    with notes.told_with_errors():
        grown = _grown(_read(config, prepared, events, notes), users, notes)
    tell(notes.findings(), say)
    growths = [_growth(config, catalogue, user, users.get(user, _User()), now) for user, now in grown.items()]
    with Summarizer(config, prepared.items.select(ITEM, *catalogue.fields)) as summarizer:
        written = summarizer.append(growths) if growths else []
    if written:
        _save(folder, written, grown)
    return written


def _known_users(folder: RunFolder, prepared: Prepared) -> dict[str, _User]:
    """Read the users of the run, and over them those of earlier appended events."""
    appended = list(_rows(folder.appended))
    summaries = {row[USER]: row for row in _rows(folder.require(folder.summaries, "summarize"))}
    summaries |= {row[USER]: row for row in appended}
    return {
        row[USER]: _User(
            row[HISTORY],
            row.get(TIMES) or [None] * len(row[HISTORY]),
            row.get(_UNTIMED) or [],
            summaries.get(row[USER]),
        )
        for row in (*prepared.histories.iter_rows(named=True), *appended)
    }


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    return read_parquet(path).iter_rows(named=True) if path.exists() else iter(())


def _read(config: Config, prepared: Prepared, path: Path, notes: Notes) -> pl.DataFrame:
    """Read a table of events by the run's own rules, each user's in order of time."""
    source = _source(config, path, notes)
    orders = [finding.rule for finding in prepared.findings if finding.rule in (DAY_FIRST, MONTH_FIRST)]
    day_first = orders[0] == DAY_FIRST if orders else None
    events = read_events(source, path, notes, day_first=day_first)
    events = mended_ids(events, (USER,), notes, source.null_words)
    return mend_events(events, prepared.items, notes, null_words=source.null_words, seed=config.seed)


def _source(config: Config, path: Path, notes: Notes) -> TableData:
    """Take the run's data settings for a new table; a column that it lacks may have its usual name."""
    if isinstance(config.data, TableData):
        own = config.data
    else:
        words = {"null_words": config.data.null_words} if isinstance(config.data, FileData) else {}
        own = TableData(format="tables", items=path, events=path, **words)
    present = column_names(path)
    usual = {"user_column": USER, "item_column": ITEM, "time_column": TIME}
    names = {setting: getattr(own, setting) for setting in usual}
    for setting, name in usual.items():
        if names[setting] not in (*present, None) and name in present:
            names[setting] = name
    if names["time_column"] not in (*present, None):
        looked_for = " nor ".join(dict.fromkeys((repr(names["time_column"]), repr(TIME))))
        notes.count(
            "no-time-column",
            f"table without a column {looked_for}: its rows are taken oldest first",
            "noted",
            1,
        )
        names["time_column"] = None
    return own.model_copy(update={"events": path, "histories": None, **names})


def _grown(events: pl.DataFrame, users: Mapping[str, _User], notes: Notes) -> dict[str, _User]:
    """Put new events behind the histories of their users; known and late ones are left out, and noted.

    Given are the users to whom there is something to write, in the order of their first event.
    """
    if TIME not in events.columns:
        events = events.with_columns(pl.lit(None, dtype=pl.Int64).alias(TIME))
    events = events.with_columns(pl.col(TIME).floordiv(SECOND))
    table = hash_value(events.filter(pl.col(TIME).is_null()).select(USER, ITEM).rows())
    names = events[USER].unique(maintain_order=True)
    before = {user: users.get(user, _User()) for user in names}
    states = pl.Series(_states(events, before, table), dtype=pl.String)
    shown = pl.format("item {} of user {}", ITEM, USER)
    notes.add("known-event", _KNOWN, "dropped", events.filter(states == "known"), shown)
    notes.add("late-event", _LATE, "dropped", events.filter(states == "late"), shown)
    firsts = events.filter(pl.col(USER).is_first_distinct() & ~pl.col(USER).is_in(list(users)))
    notes.add("new-user", "users that the run has no history of begin one", "noted", firsts, USER)
    new = (
        events.filter(states == "new")
        .group_by(USER)
        .agg(ITEM, TIME, pl.col(TIME).has_nulls().alias(_UNTIMED))
    )
    grown = {
        user: replace(
            before[user],
            items=[*before[user].items, *items],
            times=[*before[user].times, *times],
            untimed=[*before[user].untimed, *[table] * untimed],
        )
        for user, items, times, untimed in new.iter_rows()
    }
    now = {user: grown.get(user, before[user]) for user in names}
    return {
        user: now[user] for user in names if user in grown or (now[user].items and now[user].is_unfinished)
    }


def _states(events: pl.DataFrame, before: Mapping[str, _User], table: str) -> Iterator[str]:
    """Say of each event whether it is new, known, or late: older than the newest known one of its user."""
    seen = {user: set(zip(known.items, known.times, strict=True)) for user, known in before.items()}
    newest = {
        user: max((time for time in known.times if time is not None), default=None)
        for user, known in before.items()
    }
    for user, item, time in events.select(USER, ITEM, TIME).iter_rows():
        if time is None:
            yield "known" if table in before[user].untimed else "new"
        elif (item, time) in seen[user]:
            yield "known"
        else:
            last = newest[user]
            yield "new" if last is None or time >= last else "late"


def _growth(config: Config, catalogue: Catalogue, user: str, before: _User, now: _User) -> Growth:
    old, new = (cut_history(list(catalogue.items(known.items)), config) for known in (before, now))
    row = before.summary
    # The table keeps the state of the last summary alone; the keyphrase writer, which calls no model and
    # needs every block's, reads the history again.
    if row is None or before.is_unfinished or isinstance(config.summary.writer, KeyphraseWriter):
        return Growth(UserSummary.empty(user), (), new)
    steps = tuple(Summary(text) for text in row[BLOCK_SUMMARIES])
    return Growth(UserSummary(user, Summary(row[SUMMARY], row[STATE]), steps, Usage()), old, new)


def _save(folder: RunFolder, written: Sequence[UserSummary], users: Mapping[str, _User]) -> None:
    """Write summaries and histories as one table: a kill leaves both as they were, or both new."""
    told = [users[summary.user_id] for summary in written]
    new = to_frame(written).with_columns(
        pl.Series(HISTORY, [list(user.items) for user in told], dtype=pl.List(pl.String)),
        pl.Series(TIMES, [list(user.times) for user in told], dtype=pl.List(pl.Int64)),
        pl.Series(_UNTIMED, [list(user.untimed) for user in told], dtype=pl.List(pl.String)),
    )
    if folder.appended.exists():
        kept = read_parquet(folder.appended).filter(~pl.col(USER).is_in(new[USER].implode()))
        new = pl.concat([kept, new], how="diagonal")
    write_parquet(new, folder.appended)
