"""What serving costs among few users and among millions: to load, and to rank a user first and again.

python benchmarks/serving_users.py runs/demo [--users 2000 2000000] [--folder SCRATCH]

The stores hold the run's own users over and over, under new ids. Each figure comes from a process of its own:
seconds of the clock and, in brackets, of the processor, the median of several requests.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trsr.artifacts import RunFolder, read_parquet
from trsr.users import SERVED, UserRow, Users

ASKED = 200
PEOPLE = 2_000
REPEATS = 3


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of one call: of the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def make_store(run: RunFolder, path: Path, count: int) -> list[str]:
    """Fill a store with so many users, and return ids to ask for, from all over it."""
    known = read_parquet(run.histories)["user_id"].head(min(count, PEOPLE))
    with Users(run.users) as own, Users(path, make=True) as store:
        rows = own.find(known).values()
        store.put(dataclasses.replace(row, user_id=name(number)) for number, row in enumerate(rows))
    others = ", ".join(field.name for field in dataclasses.fields(UserRow)[1:])
    copy = (
        f"INSERT INTO users SELECT printf('user-%09d', substr(user_id, 6) + ?), {others} FROM users LIMIT ?"
    )
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")
        for made in range(len(known), count, len(known)):
            connection.execute(copy, [made, min(len(known), count - made)])
        connection.execute("COMMIT")
    connection.close()
    return [name(number) for number in range(0, count, max(1, count // ASKED))][:ASKED]


def name(number: int) -> str:
    """Name a user by a number."""
    return f"user-{number:09}"


def serve(run: Path, store: Path, users: list[str]) -> dict[str, Any]:
    """Load the run with a store, and rank its users; in a process of its own."""
    import torch  # noqa: PLC0415  its import is timed apart

    torch.set_num_threads(1)
    before = len(sys.modules)
    made: list[Any] = []

    def load() -> None:
        from trsr.recommender import Recommender  # noqa: PLC0415

        made.append(Recommender.load(run, users=store))

    figures: dict[str, Any] = {"load": timed(load), "modules": len(sys.modules) - before}
    [recommender] = made
    figures["very first"] = timed(lambda: recommender.rank_user(users[0]))
    for name in ("first", "again"):
        figures[name] = median([timed(lambda user=user: recommender.rank_user(user)) for user in users[1:]])
    with Users(store) as opened:
        figures["row"] = median([timed(lambda user=user: opened.get(user, SERVED)) for user in users])
    figures["many"] = timed(lambda: recommender.rank_many(_frame(users), k=10))
    recommender.close()
    return figures


def _frame(users: list[str]) -> Any:
    import polars as pl  # noqa: PLC0415

    return pl.DataFrame({"user_id": users})


def median(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Median of clock and of processor."""
    clocks, processors = zip(*times, strict=True)
    return statistics.median(clocks), statistics.median(processors)


def main() -> None:
    """Print one table: a row a number of users."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder of a finished run")
    parser.add_argument("--users", type=int, nargs="+", default=[2_000, 2_000_000])
    parser.add_argument("--folder", type=Path, help="where the stores go (else the place of temporary files)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        store, users = Path(given.serve[0]), given.serve[1].split(",")
        print(json.dumps(serve(given.run_dir, store, users)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        stores = []
        for count in given.users:
            path = Path(scratch) / f"{count}.sqlite"
            began = time.perf_counter()
            stores.append((count, path, make_store(RunFolder(given.run_dir), path, count)))
            clock = time.perf_counter() - began
            print(f"{count:,} users: {path.stat().st_size / 1e6:,.0f} MB, written in {clock:,.0f} s")
        print(
            "users | load, s | modules | very first, ms | first, ms | again, ms | one row, ms | of many, ms"
        )
        for count, path, users in stores:
            told = [_served(given.run_dir, path, users) for _ in range(REPEATS)]
            print(count_and_times(count, told, len(users)))


def _served(run: Path, store: Path, users: list[str]) -> dict[str, Any]:
    command = [sys.executable, __file__, str(run), "--serve", str(store), ",".join(users)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def count_and_times(count: int, told: list[dict[str, Any]], asked: int) -> str:
    """Write a row: the median over processes, of the clock and, in brackets, of the processor."""

    def cell(name: str, factor: float) -> str:
        clock, processor = median([tuple(figures[name]) for figures in told])
        return f"{clock * factor:,.3g} ({processor * factor:,.3g})"

    cells = [f"{count:,}", cell("load", 1), str(told[0]["modules"])]
    cells += [cell(name, 1e3) for name in ("very first", "first", "again", "row")]
    return " | ".join([*cells, cell("many", 1e3 / asked)])


if __name__ == "__main__":
    main()
