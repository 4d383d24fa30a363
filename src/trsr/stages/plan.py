"""The bill of a run's summaries, before the first call and after the last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.config import Config
from trsr.config.summary import OwnWriter
from trsr.data.catalogue import Catalogue
from trsr.records import HISTORY, ITEM, USER, Item
from trsr.stages.work import Say
from trsr.summarize.cost import Bill, Budget, table
from trsr.summarize.forecast import Forecast, forecast, measure, side_by_side

BILL = "bill.json"
"""Planned and actual, side by side, and the bills of earlier commands on the same run folder."""


def plan(config: Config, folder: RunFolder, sample: int = 0) -> list[Forecast]:
    """Forecast both paradigms for the users of a prepared run.

    First `sample` real calls are made, to know the time and the length of answers; they are stored, and
    thus paid for once. Raises `ArtifactError` when the folder lacks the dataset, `StoreError`, `ModelError`
    or `WriterError` when the store, the tokenizer or the model fails.
    """
    items = read_parquet(folder.require(folder.items, "prepare"))
    histories = read_parquet(folder.require(folder.histories, "prepare"))
    users, catalogue = users_of(config, items, histories)
    speed = None
    if sample:
        speed = measure(config, items.select(ITEM, *catalogue.fields), users, sample)
    return side_by_side(config, users, speed)


def render(forecasts: list[Forecast]) -> str:
    """Write forecasts as a table, and what the figures rest on below it."""
    notes = list(dict.fromkeys(each.basis for each in forecasts))
    return "\n".join([table([each.bill for each in forecasts]), *notes])


def users_of(
    config: Config, items: pl.DataFrame, histories: pl.DataFrame
) -> tuple[list[tuple[str, list[Item]]], Catalogue]:
    """Give the histories of all users as items, and the catalogue that they are from."""
    catalogue = Catalogue(items, config.items.fields)
    users = zip(histories[USER], histories[HISTORY], strict=True)
    return [(user, list(catalogue.items(history))) for user, history in users], catalogue


@contextmanager
def billed(
    config: Config, folder: RunFolder, users: list[tuple[str, list[Item]]], say: Say
) -> Iterator[Budget]:
    """Write ``bill.json`` around the work of a block: planned before it, actual after it, also when it fails.

    The block is given what it may pay from, by `summary.limits`.
    """
    budget = Budget(config.summary.limits, config.summary.price)
    path = folder.path / BILL
    earlier = _read_earlier(folder)
    planned = forecast(config, users, name="planned")
    if planned.bill.calls:
        say("\n".join(f"  {line}" for line in [*table([planned.bill]).splitlines(), planned.basis]))
    entry: dict[str, Any] = {"planned": planned.bill.as_json(), "basis": planned.basis, "actual": None}
    write_json(entry | {"finished": False, "earlier": earlier}, path)
    began, finished = time.monotonic(), False
    try:
        yield budget
        finished = True
    finally:
        seconds = time.monotonic() - began
        # What is still reserved was under way when something failed: it may be charged.
        spent = budget.settle()
        actual = Bill.of("actual", spent, spent.calls_reused, seconds, config.summary.price)
        # An own writer may pay past the budget: none of its calls here isn't none at all.
        told = budget.is_known and (spent.calls > 0 or not isinstance(config.summary.writer, OwnWriter))
        entry["actual"] = actual.as_json() if told else None
        write_json(entry | {"finished": finished, "earlier": earlier}, path)
        if not budget.is_known:
            say("  what the workers spent is unknown: the actor that counted it is lost")
        elif actual.calls:
            say("\n".join(f"  {line}" for line in table([planned.bill, actual]).splitlines()))


def _read_earlier(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the bills of earlier commands, the newest last; a damaged file is no reason not to run."""
    try:
        last = json.loads((folder.path / BILL).read_text(encoding="utf-8"))
        earlier = last.pop("earlier")
    except (OSError, ValueError, AttributeError, KeyError):
        return []
    return [*earlier, last]
