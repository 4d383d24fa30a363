"""Recommendations for a table of users, part by part, into one Parquet file; a kill loses a part at most."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import hash_value, locked, replacing, write_json, write_parquet
from trsr.bundle import CARD
from trsr.data.cleaning import ids_in_text
from trsr.data.ids import id_texts
from trsr.data.notes import FILE, LINE, Notes
from trsr.data.readers.tables import read_table
from trsr.errors import ArtifactError, DataError
from trsr.progress import Progress
from trsr.recommender import RANK, Recommender
from trsr.recommending import Recommendation, Wanted
from trsr.records import FAILED, HISTORY, ITEM, P_YES, SCORE, SUMMARY, USER
from trsr.scorer import ItemLike

_PART: Final = 64
"""Users of a part: they share the language model's passes, and a killed process loses them together."""
_SAID: Final = "said"
_LEFT_OUT: Final = "left_out"
_COLUMNS: Final[dict[str, Any]] = {
    USER: pl.String,
    RANK: pl.Int64,
    ITEM: pl.String,
    SCORE: pl.Float64,
    P_YES: pl.Float64,
    _LEFT_OUT: pl.Int64,
    FAILED: pl.String,
}
_VOICES: Final = pl.List(pl.Struct({"system": pl.String, _SAID: pl.Float64, "adds": pl.Float64}))


@dataclass(frozen=True, slots=True)
class Written:
    """What a table holds: users with items, and why others have none."""

    users: int
    failed: pl.DataFrame


def recommend_table(
    recommender: Recommender, users: pl.DataFrame, out: Path, wanted: Wanted, *, part: int = _PART
) -> Written:
    """Recommend to every user of a frame, and write ``user_id``, ``rank``, ``item_id``, ``score``, ``p_yes``.

    Parts lie in ``OUT.parts`` until the last is there; the same call goes on from them. A user to whom
    nothing can be recommended has one row, without an item, whose column ``failed`` says why; ``left_out``
    counts what a limit of time left unread; ``said``, where `Wanted.explain` asks for it, holds the voices.

    Parameters
    ----------
    users
        ``user_id``, and where they are there ``history`` and ``summary``; without a history those that the
        recommender knows.
    out
        The file. One that is there is replaced at the end.

    Raises
    ------
    DataError
        When the frame has no users, or one twice.
    ArtifactError
        When the parts that lie there are of other users or other wishes, or another process makes them.
    """
    _require_users(users)
    parts = out.with_name(f"{out.name}.parts")
    with locked(parts / ".lock", wait=False) as mine:
        if not mine:
            message = f"{parts}: another process writes these; wait for it, or give another --out"
            raise ArtifactError(message)
        _require_same(recommender, users, wanted, parts)
        starts = range(0, users.height, part)
        paths = [parts / f"{start:09d}.parquet" for start in starts]
        done = sum(
            min(part, users.height - at) for at, path in zip(starts, paths, strict=True) if path.exists()
        )
        with Progress("recommend", users.height, "users", done=done) as progress:
            for start, path in zip(starts, paths, strict=True):
                if not path.exists():
                    rows = users.slice(start, part)
                    write_parquet(_part(recommender, rows, wanted), path)
                    progress.advance(rows.height)
        with replacing(out) as temporary:
            pl.scan_parquet(paths).sink_parquet(temporary)
        shutil.rmtree(parts)
    failed = pl.scan_parquet(out).filter(pl.col(FAILED).is_not_null()).select(USER, FAILED).collect()
    return Written(users.height - failed.height, failed)


def read_users(path: Path) -> pl.DataFrame:
    """Read a table of users in any form of own tables; histories are lists, or ids in one text.

    Raises DataError when it can't be read whole, or has no column of users.
    """
    notes = Notes()
    with notes.told_with_errors():
        table = read_table(path, notes)
    if bad := [found for found in notes.findings() if found.action == "dropped"]:
        message = (
            f"{path}: {bad[0].count:,} rows can't be read: {bad[0].message}, such as {bad[0].examples[0]}"
        )
        raise DataError(message)
    if USER not in table.columns:
        held = ", ".join(name for name in table.columns if name not in (FILE, LINE))
        message = f"{path}: no column {USER!r}, but {held}"
        raise DataError(message)
    table = table.with_columns(id_texts(table[USER]))
    if HISTORY in table.columns:
        told = table[HISTORY]
        if told.dtype == pl.String:
            told = table.select(ids_in_text(pl.col(HISTORY).fill_null("")))[HISTORY]
        table = table.with_columns(id_texts(told))
        if (bad_rows := table.filter(pl.col(HISTORY).is_null())).height:
            message = f"{path}:{bad_rows[LINE][0]}: no list of item ids in the column {HISTORY!r}"
            raise DataError(message)
    return table.select(name for name in (USER, HISTORY, SUMMARY) if name in table.columns)


def _require_users(users: pl.DataFrame) -> None:
    if not users.height:
        message = "there are no users to recommend to"
        raise DataError(message)
    twice = users.filter(pl.col(USER).is_duplicated() | pl.col(USER).is_null())
    if twice.height:
        message = f"users must each stand in one row, {twice[USER][0]!r} doesn't ({twice.height:,} such rows)"
        raise DataError(message)


def _require_same(recommender: Recommender, users: pl.DataFrame, wanted: Wanted, parts: Path) -> None:
    """Raise ArtifactError where parts were made of something else; note what these are made of."""
    told = asdict(wanted) | {"allow": None if wanted.allow is None else sorted(wanted.allow)}
    asked = told | {"deny": sorted(wanted.deny), "ranker": recommender.scorer.ranked_by}
    card = (recommender.bundle.path / CARD).read_text(encoding="utf-8")
    made_of = {"asked": json.loads(json.dumps(asked, default=sorted)), "bundle": hash_value(card)}
    made_of["users"] = hash_value(users.hash_rows(seed=0).to_list())
    path = parts / "job.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if differing := [name for name in made_of if before.get(name) != made_of[name]]:
            message = (
                f"{parts}: holds parts of another call, with other {' and '.join(differing)}; repeat "
                "that call, delete the folder, or give another --out"
            )
            raise ArtifactError(message)
    else:
        write_json(made_of, path)


def _part(recommender: Recommender, users: pl.DataFrame, wanted: Wanted) -> pl.DataFrame:
    """Recommend to some users together; where that fails, one by one: a user's error stays theirs."""
    asked = [(row[USER], row.get(HISTORY), row.get(SUMMARY)) for row in users.iter_rows(named=True)]
    try:
        found: list[Recommendation | str] = [*recommender.recommend_to(asked, wanted)]
    except DataError:
        found = [_alone(recommender, each, wanted) for each in asked]
    schema = _COLUMNS | ({_SAID: _VOICES} if wanted.explain else {})
    rows = [row for (user, *_), said in zip(asked, found, strict=True) for row in _rows(user, said, schema)]
    return pl.DataFrame(rows, schema=schema)


def _alone(
    recommender: Recommender, asked: tuple[str, Sequence[ItemLike] | None, str | None], wanted: Wanted
) -> Recommendation | str:
    try:
        return recommender.recommend_to([asked], wanted)[0]
    except DataError as error:
        return str(error)


def _rows(user: str, said: Recommendation | str, schema: dict[str, Any]) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(schema)
    if isinstance(said, str):
        return [nothing | {USER: user, FAILED: said}]
    return [
        nothing
        | {USER: user, RANK: rank, ITEM: item.item_id, SCORE: item.score, P_YES: item.p_yes}
        | {_LEFT_OUT: said.unread}
        | ({_SAID: [asdict(voice) for voice in item.voices]} if _SAID in schema else {})
        for rank, item in enumerate(said.items, start=1)
    ]
