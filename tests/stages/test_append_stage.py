"""Appended events are read by the rules of the run's own data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trsr.append import append_events
from trsr.artifacts import RunFolder
from trsr.config import load
from trsr.errors import DataError
from trsr.pipeline import run
from trsr.stages.prepare import tell
from trsr.users import UserRow, Users, update_users

NEW = 1_600_000_000
"""A moment after all events of the run."""


def shop(folder: Path, *, day_first: bool = False, **data: Any) -> RunFolder:
    """Make a run with summaries, whose users 0001 to 0020 took items 00 to 06 in turn, and 07 as the last."""
    (folder / "goods.csv").write_text(
        "sku,name\n" + "".join(f"{item:02},Thing number {item}\n" for item in range(40))
    )
    written = "{day:02}/10/2019" if day_first else "2019-10-{day:02}"
    rows = [
        f"{user:04},{item:02},{written.format(day=20 + item)}\n" for user in range(1, 21) for item in range(8)
    ]
    (folder / "bought.csv").write_text("customer,sku,bought_at\n" + "".join(rows))
    columns = {"item_id": "sku", "user_column": "customer", "item_column": "sku", "time_column": "bought_at"}
    files = {"items": str(folder / "goods.csv"), "events": str(folder / "bought.csv")}
    config = load(
        overrides={
            "out": str(folder / "run"),
            "data": {"format": "tables"} | files | columns | data,
            "history": {"min": 4},
            "split": {"valid": 0.3, "test": 0.3},
        }
    )
    return run(config, until="summarize", say=lambda line: None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def folder(prepared: RunFolder) -> RunFolder:
    prepared.users.unlink()
    update_users(prepared)
    return prepared


def appended(folder: RunFolder, path: Path) -> tuple[dict[str, list[str]], str]:
    """Append, and give what was added to each user's history (behind 00 to 06), and what was said."""
    said: list[str] = []
    append_events(folder.path, path, lambda findings: tell(findings, said.append))
    own = [f"{item:02}" for item in range(7)]
    return {
        row.user_id: list(row.history[7:] if row.history[:7] == own else row.history)
        for row in stored(folder).values()
        if row.appended
    }, "\n".join(said)


def stored(folder: RunFolder) -> dict[str, UserRow]:
    with Users(folder.users) as users:
        return users.find([f"{user:04}" for user in range(1, 21)] + ["7", "8"])


def rows_of(names: str, *rows: str) -> str:
    return "\n".join([names, *rows, ""])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("new.csv", rows_of("customer,sku,bought_at", f"0007,11,{NEW + 1}", f" 0007,10,{NEW}")),
        ("new.csv", rows_of("user_id,item_id,time", f"0007,11,{NEW + 1}", f"0007,10,{NEW}")),
        ("new.tsv", rows_of("user_id\titem_id\tbought_at", f"0007\t11\t{NEW}1000", f"0007\t10\t{NEW}")),
        ("new.csv", rows_of("customer,sku,bought_at", "0007,11,1/10/2020 9:00 PM", "0007,10,1/9/2020 10:00")),
        (
            "new.csv",
            rows_of("customer,sku,time", "0007,11,2020-01-01T00:30Z", "0007,10,2020-01-01T01:00+02:00"),
        ),
        ("new.csv", rows_of("customer,sku", "0007,10", "0007,11")),
    ],
)
def test_columns_formats_ids_and_times_are_those_of_the_run(
    folder: RunFolder, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert appended(folder, tmp_path / name)[0] == {"0007": ["10", "11"]}


def test_packed_json_lines_and_typed_tables(folder: RunFolder, tmp_path: Path) -> None:
    lines = [{"customer": "0007", "sku": item, "bought_at": NEW + at} for at, item in enumerate(["10", "11"])]
    packed = tmp_path / "new.jsonl.gz"
    packed.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines).encode()))
    assert appended(folder, packed)[0] == {"0007": ["10", "11"]}
    typed = tmp_path / "new.parquet"
    pl.DataFrame({"customer": [7.0, 7.0], "sku": ["10", "11"], "bought_at": [1, 2]}).write_parquet(typed)
    added, said = appended(folder, typed)
    assert added == {"0007": ["10", "11"], "7": ["10", "11"]}
    assert "2 ids that are whole floats" in said
    assert "1 users that the run has no history of" in said


def test_the_same_events_twice_change_nothing(folder: RunFolder, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(
        rows_of("customer,sku,bought_at", f"0007,10,{NEW}", f"0008,10,{NEW}", f"0007,10,{NEW + 9}")
    )
    assert appended(folder, new)[0] == {"0007": ["10", "10"], "0008": ["10"]}
    first = stored(folder)
    _, said = appended(folder, new)
    assert stored(folder) == first
    assert "3 events that the run or an earlier append holds" in said
    # Another table with one event more: that one alone is new.
    new.write_text(new.read_text() + f"0007,12,{NEW + 10}\n")
    assert appended(folder, new)[0]["0007"] == ["10", "10", "12"]


def test_the_whole_log_again_adds_only_the_held_out_targets(folder: RunFolder, tmp_path: Path) -> None:
    added, said = appended(folder, folder.path.parent / "bought.csv")
    assert added == {f"{user:04}": ["07"] for user in range(1, 21)}
    assert "140 events that the run or an earlier append holds" in said


def test_without_times_a_table_is_appended_once(folder: RunFolder, tmp_path: Path) -> None:
    first, copy, other = (tmp_path / name for name in ("first.csv", "copy.tsv", "other.csv"))
    first.write_text(rows_of("customer,sku", "0007,10", "0007,10"))
    copy.write_text(rows_of("customer\tsku", "0007\t10", "0007\t10"))
    other.write_text(rows_of("customer,sku", "0007,10", "0008,10"))
    added, said = appended(folder, first)
    assert added == {"0007": ["10", "10"]}
    assert "without a column 'bought_at' nor 'time'" in said
    assert appended(folder, copy)[0] == {"0007": ["10", "10"]}
    assert appended(folder, other)[0] == {"0007": ["10", "10", "10"], "0008": ["10"]}


def test_late_events_are_left_out_and_said(folder: RunFolder, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(
        rows_of("customer,sku,bought_at", "0007,30,2019-10-25", "0007,31,2019-10-26", "0007,32,2019-11-01")
    )
    added, said = appended(folder, new)
    assert added == {"0007": ["31", "32"]}  # the history ends on October 26
    assert "1 events older than the newest known one" in said


def test_what_prepare_would_leave_out_is_left_out_and_said(folder: RunFolder, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(
        rows_of("customer,sku,bought_at", f"0007,10,{NEW}", f"0007,99,{NEW}", ",11,5", "0007,12,soon")
    )
    added, said = appended(folder, new)
    assert added == {"0007": ["10"]}
    for told in ("1 interactions with items", "1 rows without an id", "1 times that can't be read"):
        assert told in said


def test_findings_come_with_the_error_when_nothing_is_left(folder: RunFolder, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text(rows_of("customer,sku,bought_at", f"0007,99,{NEW}"))
    with pytest.raises(DataError, match="known item") as refused:
        append_events(folder.path, new)
    assert "items that the item file does not have" in refused.value.findings[0].message


def test_days_and_months_are_told_by_the_run(tmp_path: Path) -> None:
    folder = shop(tmp_path, day_first=True)
    new = tmp_path / "new.csv"
    new.write_text(rows_of("customer,sku,bought_at", "0007,10,1/12/2019", "0007,11,2/11/2019"))
    added, said = appended(folder, new)
    assert added == {"0007": ["11", "10"]}
    assert "as day, month, year, as in the run's own table" in said


def test_a_format_of_times_holds_for_new_events_too(tmp_path: Path) -> None:
    folder = shop(tmp_path, time_format="%Y-%m-%d")
    new = tmp_path / "new.csv"
    new.write_text(rows_of("customer,sku,bought_at", "0007,10,2020-01-02", "0007,11,2020-01-01"))
    assert appended(folder, new)[0] == {"0007": ["11", "10"]}
    new.write_text(rows_of("customer,sku,bought_at", f"0007,10,{NEW}"))
    with pytest.raises(DataError, match="time_format"):
        appended(folder, new)
