"""Data preparation at size: `trsr.data.prepare` beside a script that scans the item table for every item.

python benchmarks/preparation.py            # writes its table into docs/performance.md; needs 2 GB of disk
python benchmarks/preparation.py --quick    # a smoke run, nothing is written
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sections import write_section

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.data import AmazonM2Data
from trsr.data.prepare import prepare, save

ROOT = Path(__file__).parent.parent
SIZES = ((100_000, 100_000), (1_000_000, 300_000))
"""Sessions and products."""
NEGATIVES = 20
SAMPLE = 150
"""Sessions that the scan is timed on; every session takes it the same time, so the rest is multiplied."""
WORDS = (
    "steel",
    "oak",
    "soft",
    "travel",
    "kitchen",
    "lamp",
    "garden",
    "cotton",
    "small",
    "blue",
    "set",
    "pro",
)


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process took; memory is its peak, the interpreter and the libraries included."""

    wall_s: float
    cpu_s: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Row:
    """One size."""

    sessions: int
    products: int
    file_mb: float
    ours: Spent
    scan: Spent


def generate(folder: Path, sessions: int, products: int) -> None:
    """Write products of a few hundred characters, and sessions of 10 to 25 previous items."""
    stream = np.random.default_rng(0)
    ids = [f"B{number:09d}" for number in range(products)]

    def texts(words: int) -> list[str]:
        drawn = stream.choice(WORDS, (products, words))
        return [" ".join(row) for row in drawn.tolist()]

    pl.DataFrame(
        {
            "id": ids,
            "locale": ["UK"] * products,
            "title": texts(12),
            "price": np.round(stream.uniform(1, 300, products), 2),
            "brand": texts(1),
            "color": texts(1),
            "size": texts(1),
            "model": texts(1),
            "material": texts(1),
            "author": [""] * products,
            "desc": texts(30),
        }
    ).write_csv(folder / "products_train.csv")
    lengths = stream.integers(10, 26, sessions)
    # Popular items take part often: the square leans towards low numbers.
    taken = (stream.random(int(lengths.sum()) + sessions) ** 2 * products).astype(np.int64).tolist()
    place = 0
    with (folder / "sessions_train.csv").open("w", encoding="utf-8") as file:
        file.write("prev_items,next_item,locale\n")
        for length in lengths.tolist():
            items = " ".join(f"'{ids[item]}'" for item in taken[place : place + length])
            file.write(f'"[{items}]",{ids[taken[place + length]]},UK\n')
            place += length + 1


def run_ours(folder: Path, _sessions: int) -> None:
    """Prepare and save, as `trsr prepare` does."""
    save(prepare(Config(data=AmazonM2Data(format="amazon_m2", path=folder))), RunFolder(folder / "run"))


def run_scan(folder: Path, sessions: int) -> None:
    """Go through the sessions row by row, and look every item up by a scan of the table."""
    products = pl.read_csv(folder / "products_train.csv", infer_schema=False)
    ids = products["id"].to_list()
    stream = np.random.default_rng(0)
    rows = pl.read_csv(folder / "sessions_train.csv", infer_schema=False, n_rows=sessions)
    for row in rows.iter_rows(named=True):
        history = ast.literal_eval(row["prev_items"].replace("' '", "', '"))
        looked_up = [products.filter(pl.col("id") == item).row(0) for item in (*history, row["next_item"])]
        negatives: list[str] = []
        while len(negatives) < NEGATIVES:
            item = ids[stream.integers(len(ids))]
            if item not in history and item != row["next_item"] and item not in negatives:
                negatives.append(item)
        assert len(looked_up) > len(history)


WAYS: dict[str, Callable[[Path, int], None]] = {"ours": run_ours, "scan": run_scan}


def in_process(way: str, folder: Path, sessions: int) -> Spent:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--child", way, str(folder), str(sessions)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Spent(**json.loads(done.stdout.splitlines()[-1]))


def child(way: str, folder: str, sessions: str) -> None:
    """Be that process."""
    wall, cpu = time.perf_counter(), time.process_time()
    WAYS[way](Path(folder), int(sessions))
    spent = Spent(
        time.perf_counter() - wall,
        time.process_time() - cpu,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    print(json.dumps(asdict(spent)))


def scan_all(folder: Path, sessions: int) -> Spent:
    """Scale the scan up: what it takes to begin, and what each session takes."""
    few, more = SAMPLE // 3, SAMPLE
    begun, went_on = (in_process("scan", folder, count) for count in (few, more))
    factor = (sessions - few) / (more - few)

    def scaled(first: float, second: float) -> float:
        return first + (second - first) * factor

    return Spent(scaled(begun.wall_s, went_on.wall_s), scaled(begun.cpu_s, went_on.cpu_s), went_on.memory_mb)


def run(sessions: int, products: int) -> Row:
    """Measure one size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder, sessions, products)
        size = sum(path.stat().st_size for path in folder.glob("*.csv")) / 1e6
        ours = in_process("ours", folder, sessions)
        return Row(sessions, products, size, ours, scan_all(folder, sessions))


def main() -> None:
    """Run all sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds that writes nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where performance.md lies")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    rows = []
    for sessions, products in ((2_000, 1_000),) if arguments.quick else SIZES:
        rows.append(run(sessions, products))
        print(json.dumps(asdict(rows[-1])), flush=True)
    if not arguments.quick:
        records = ROOT / "runs" / "bench" / "preparation.json"
        records.parent.mkdir(parents=True, exist_ok=True)
        records.write_text(json.dumps([asdict(row) for row in rows], indent=1))
        write_section(arguments.out / "performance.md", "preparation", table(rows))


def table(rows: Sequence[Row]) -> str:
    """Write all sizes, and how the cost grows from the first to the last, as Markdown."""
    lines = [
        f"Measured on {platform.machine()}, {os.cpu_count()} cores, polars {pl.__version__}. The scan "
        f"is timed on {SAMPLE} sessions and scaled up.",
        "",
        "| sessions | products | files, MB | ours: wall (CPU), s | ours: peak memory, MB "
        "| scan: wall (CPU), s | times faster, wall (CPU) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, scan = row.ours, row.scan
        cells = (
            f"{row.sessions:,}",
            f"{row.products:,}",
            f"{row.file_mb:.0f}",
            f"{ours.wall_s:.1f} ({ours.cpu_s:.1f})",
            f"{ours.memory_mb:,.0f}",
            f"{scan.wall_s:,.0f} ({scan.cpu_s:,.0f})",
            f"{scan.wall_s / ours.wall_s:,.0f}x (**{scan.cpu_s / ours.cpu_s:,.0f}x**)",
        )
        lines.append(f"| {' | '.join(cells)} |")
    first, last = rows[0], rows[-1]
    growth = (
        last.sessions / first.sessions,
        last.ours.cpu_s / first.ours.cpu_s,
        last.ours.memory_mb / first.ours.memory_mb,
        last.scan.cpu_s / first.scan.cpu_s,
    )
    lines += [
        "",
        "From the first row to the last: {:.0f} times the sessions; our CPU time grows {:.1f} times, our "
        "memory {:.1f} times, the scan's CPU time {:.0f} times.".format(*growth),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
