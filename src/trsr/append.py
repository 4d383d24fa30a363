"""New events for the users of a finished run: summaries go on, the run's own figures stay as they are.

Events are read by the rules by which the run's own were: the same names of columns, formats, ids, times and
order of rows. An event is known when its user has taken its item in the same second; an event without a time
is known when all events without a time of its table were appended before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from trsr.artifacts import RunFolder, hash_value, sweep
from trsr.config import Config
from trsr.config.data import FileData, TableData
from trsr.config.load import load_run
from trsr.config.summary import KeyphraseWriter, Limits
from trsr.data.dataset import Catalogue
from trsr.data.ids import mended_ids
from trsr.data.notes import Notes
from trsr.data.prepare import read_items
from trsr.data.readers.tables import column_names, read_events
from trsr.data.repair import SECOND, mend_events
from trsr.data.times import DAY_FIRST, MONTH_FIRST
from trsr.errors import ArtifactError
from trsr.records import ITEM, TIME, USER, Finding, Summary, Usage, UserSummary
from trsr.summarize.summarizer import Growth, Summarizer, cut_history
from trsr.users import UserRow, Users, update_users

Tell = Callable[[Sequence[Finding]], None]
"""Is given what was noticed, repaired or left out, before anything is paid for."""

_KNOWN: Final = "events that the run or an earlier append holds are left out"
_LATE: Final = (
    "events older than the newest known one of their user are left out: histories grow at their end; prepare "
    "a run with all events to take them in"
)


def append_events(
    run_dir: Path, events: Path, tell: Tell = lambda findings: None, *, limits: Limits | None = None
) -> list[UserSummary]:
    """Bring the histories and summaries of the users in a table up to date.

    They go to the run's users, from which `Recommender.rank_user` serves and later events go on. What the run
    has measured stays as it was: its own tables aren't touched. The run's held-out targets are in no history;
    put them into the events where they did happen.

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
    tell
        Called once, with what was noticed, repaired or left out.
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
    items = read_items(folder)
    folder.require(folder.summaries, "summarize")
    update_users(folder)
    catalogue = Catalogue(items, config.items.fields)
    notes = Notes()
    with notes.told_with_errors():
        source = _source(config, events, column_names(events), notes)
        table = read_events(source, events, notes, day_first=_day_first(folder))
        table = _mended(table, catalogue.ids, config, source, notes)
    with (
        Users(folder.users) as users,
        Summarizer(config, items.select(ITEM, *catalogue.fields)) as summarizer,
    ):
        return append_to(users, table, catalogue, config, summarizer, notes, tell)


def read_frame(frame: pl.DataFrame, ids: Collection[str], config: Config, notes: Notes) -> pl.DataFrame:
    """Read a frame of events, ``user_id``, ``item_id`` and perhaps ``time``, by the rules for tables."""
    called = Path("events")
    source = TableData(format="tables", items=called, events=called)
    if TIME not in frame.columns:
        source = source.model_copy(update={"time_column": None})
    events = read_events(source, called, notes, table=frame)
    return _mended(events, ids, config, source, notes)


def append_to(
    users: Users,
    events: pl.DataFrame,
    catalogue: Catalogue,
    config: Config,
    summarizer: Summarizer,
    notes: Notes,
    tell: Tell,
) -> list[UserSummary]:
    """Put events that were read behind the histories of their users, summarise, and write all users at once.

    Raises as `append_events` does.
    """
    before = users.find(events[USER].unique(maintain_order=True))
    with notes.told_with_errors():
        grown = _grown(events, before, notes)
    tell(notes.findings())
    growths = [
        _growth(config, catalogue, before.get(user, UserRow(user)), now) for user, now in grown.items()
    ]
    written = summarizer.append(growths) if growths else []
    rows = [_told(grown[summary.user_id], summary) for summary in written]
    users.put(rows, {row.user_id: before[row.user_id] for row in rows if row.user_id in before})
    return written


def grow(users: Users, events: pl.DataFrame, notes: Notes) -> list[UserRow]:
    """Put events that were read behind the histories of their users now; `catch_up` brings the summaries.

    When it returns, they are on the disk. A user who has no summary yet has an empty one meanwhile.
    """

    def grown(before: dict[str, UserRow]) -> Iterator[UserRow]:
        with notes.told_with_errors():
            now = _grown(events, before, notes)
        for row in now.values():
            known = len(before[row.user_id].history) if row.user_id in before else 0
            if len(row.history) > known:
                read = known if row.read is None else row.read
                yield replace(row, summary=row.summary or "", read=read, appended=True)

    return users.change(events[USER].unique(maintain_order=True), grown)


def catch_up(
    users: Users, names: Collection[str], catalogue: Catalogue, config: Config, summarizer: Summarizer
) -> list[UserSummary]:
    """Write the summaries of users who are behind, as far as their histories reach now.

    Events that come while it writes leave their user behind. Raises as `append_events` does; a summary that
    can't be written leaves the old one, and its user behind.
    """
    found = {name: row for name, row in users.find(names).items() if row.read is not None}
    growths = [_growth(config, catalogue, row, row) for row in found.values()]
    written = {summary.user_id: summary for summary in summarizer.append(growths)} if growths else {}

    def caught_up(now: dict[str, UserRow]) -> Iterator[UserRow]:
        for name, row in now.items():
            before, summary = found[name], written[name]
            if summary.failed or (row.read, row.blocks) != (before.read, before.blocks):
                continue  # another process has written it meanwhile
            length = len(before.history)
            yield replace(_told(row, summary), read=None if len(row.history) == length else length, failed="")

    users.change(found, caught_up)
    return [*written.values()]


def _told(row: UserRow, summary: UserSummary) -> UserRow:
    return replace(
        row,
        summary=summary.final.text,
        blocks=[step.text for step in summary.steps],
        state=summary.final.state,
        failed=summary.failed,
        read=None,
        appended=True,
    )


def _mended(
    events: pl.DataFrame, ids: Collection[str], config: Config, source: TableData, notes: Notes
) -> pl.DataFrame:
    """Mend ids and times as the run's own were, and put each user's events into the order of time."""
    events = mended_ids(events, (USER,), notes, source.null_words)
    known = pl.DataFrame({ITEM: ids}, schema={ITEM: pl.String})
    return mend_events(events, known, notes, null_words=source.null_words, seed=config.seed)


def _day_first(folder: RunFolder) -> bool | None:
    """Say how the run's own table writes dates, where it says so."""
    path = folder.require(folder.findings, "prepare")
    try:
        rules = [finding["rule"] for finding in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path}: not a list of findings ({error}); run `trsr prepare` again"
        raise ArtifactError(message) from error
    orders = [rule for rule in rules if rule in (DAY_FIRST, MONTH_FIRST)]
    return orders[0] == DAY_FIRST if orders else None


def _source(config: Config, path: Path, present: Sequence[str], notes: Notes) -> TableData:
    """Take the run's data settings for a new table; a column that it lacks may have its usual name."""
    if isinstance(config.data, TableData):
        own = config.data
    else:
        words = {"null_words": config.data.null_words} if isinstance(config.data, FileData) else {}
        own = TableData(format="tables", items=path, events=path, **words)
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


def _grown(events: pl.DataFrame, users: Mapping[str, UserRow], notes: Notes) -> dict[str, UserRow]:
    """Put new events behind the histories of their users; known and late ones are left out, and noted.

    Given are the users to whom there is something to write, in the order of their first event.
    """
    if TIME not in events.columns:
        events = events.with_columns(pl.lit(None, dtype=pl.Int64).alias(TIME))
    events = events.with_columns(pl.col(TIME).floordiv(SECOND))
    table = hash_value(events.filter(pl.col(TIME).is_null()).select(USER, ITEM).rows())
    names = events[USER].unique(maintain_order=True)
    before = {user: users.get(user, UserRow(user)) for user in names}
    states = pl.Series(_states(events, before, table), dtype=pl.String)
    shown = pl.format("item {} of user {}", ITEM, USER)
    notes.add("known-event", _KNOWN, "dropped", events.filter(states == "known"), shown)
    notes.add("late-event", _LATE, "dropped", events.filter(states == "late"), shown)
    firsts = events.filter(pl.col(USER).is_first_distinct() & ~pl.col(USER).is_in(list(users)))
    notes.add("new-user", "users that the run has no history of begin one", "noted", firsts, USER)
    new = (
        events.filter(states == "new")
        .group_by(USER)
        .agg(ITEM, TIME, pl.col(TIME).has_nulls().alias("untimed"))
    )
    grown = {
        user: replace(
            before[user],
            history=[*before[user].history, *items],
            times=[*before[user].times, *times],
            untimed=[*before[user].untimed, *[table] * untimed],
        )
        for user, items, times, untimed in new.iter_rows()
    }
    now = {user: grown.get(user, before[user]) for user in names}
    return {
        user: row
        for user, row in now.items()
        if user in grown or row.unread or (row.history and row.is_unfinished)
    }


def _states(events: pl.DataFrame, before: Mapping[str, UserRow], table: str) -> Iterator[str]:
    """Say of each event whether it is new, known, or late: older than the newest known one of its user."""
    seen = {user: set(zip(known.history, known.times, strict=True)) for user, known in before.items()}
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


def _growth(config: Config, catalogue: Catalogue, before: UserRow, now: UserRow) -> Growth:
    old, new = (
        cut_history(list(catalogue.items(known)), config)
        for known in (before.history[: before.read], now.history)
    )
    # A row keeps the state of the last summary alone; the keyphrase writer, which calls no model and needs
    # every block's, reads the history again.
    if before.is_unfinished or isinstance(config.summary.writer, KeyphraseWriter):
        return Growth(UserSummary.empty(now.user_id), (), new)
    steps = tuple(Summary(text) for text in before.blocks)
    return Growth(
        UserSummary(now.user_id, Summary(before.summary or "", before.state), steps, Usage()), old, new
    )
