"""The service under load, beside the same model served the naive way: alone, and a prompt a candidate.

python benchmarks/serving.py runs/demo [--clients 1 8 64] [--requests 400] [--long 100000]

Servers and clients are processes of this machine that talk over the loopback, one server at a time, each with
one thread for the model. A request ranks the 21 frozen candidates of a known user. Milliseconds of the clock
depend on who else works here; milliseconds of the server's processors do less. `first` asks for every user
once, so that no prefix is held; `again` asks for the same users once more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np

WAYS = ("naive", "language_model", "fused")
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What a number of requests took.

    Parameters
    ----------
    latencies
        Seconds of each.
    wall_s, cpu_s
        Seconds of all together: of the clock, and of the server's processors.
    failed
        Answers that weren't 200.
    """

    latencies: list[float]
    wall_s: float
    cpu_s: float
    failed: int

    def row(self) -> str:
        """Write throughput, quantiles and the processor's share."""
        p50, p95, p99 = np.quantile(self.latencies, [0.5, 0.95, 0.99]) * 1e3
        count = len(self.latencies)
        return (
            f"{count / self.wall_s:,.0f} | {p50:,.1f} | {p95:,.1f} | {p99:,.1f} | "
            f"{self.cpu_s / count * 1e3:,.1f} | {self.failed}"
        )


def serve(run: Path, way: str) -> None:
    """Serve until told to stop; the naive way shares no prefix, no forward pass and no row with anybody."""
    import torch  # noqa: PLC0415  only the server needs it

    from trsr.ranking.shared_prefix.strategy import Path as Way  # noqa: PLC0415
    from trsr.ranking.shared_prefix.strategy import Plan  # noqa: PLC0415
    from trsr.recommender import Recommender  # noqa: PLC0415
    from trsr.serve.app import run as listen  # noqa: PLC0415
    from trsr.serve.engine import Limits  # noqa: PLC0415

    torch.set_num_threads(1)
    naive = way == "naive"
    recommender = Recommender.load(run, "fused" if way == "fused" else "language_model")
    if naive:
        recommender.scorer.ranker.plan = Plan(Way.PLAIN, False, "for comparison")
    limits = Limits(wait_s=0, batch_candidates=1) if naive else Limits()
    listen(recommender, "127.0.0.1", 0, limits, None, lambda line: print(line, flush=True))


@contextmanager
def served(run: Path, way: str) -> Iterator[tuple[int, int]]:
    """Give a server's port and process id, and end it."""
    command = [sys.executable, __file__, str(run), "--serve", way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            yield int(line.split()[0].rpartition(":")[2]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)


async def ask(port: int, clients: int, bodies: list[bytes], pid: int) -> Load:
    """Let clients send all bodies, each the next when it has its answer."""
    waiting, latencies, failed = iter(bodies), [], 0

    async def client() -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            began = time.perf_counter()
            head = f"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
            writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].split(maxsplit=1)[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - began)
            failed += not answer.startswith(b"HTTP/1.1 200")
        writer.close()
        await writer.wait_closed()

    began, cpu = time.perf_counter(), cpu_seconds(pid)
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(latencies, time.perf_counter() - began, cpu_seconds(pid) - cpu, failed)


def cpu_seconds(pid: int) -> float:
    """Seconds of all processors that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def users_of(run: Path, candidates: int | None = None) -> list[bytes]:
    """Make a request for every user of the run: for the frozen candidates, or so many of the catalogue."""
    import polars as pl  # noqa: PLC0415  the parent alone needs it

    dataset = run / "dataset"
    users = pl.read_parquet(dataset / "histories.parquet")["user_id"]
    items = pl.read_parquet(dataset / "items.parquet")["item_id"]
    given = {} if candidates is None else {"candidates": items.head(candidates).to_list()}
    return [json.dumps({"user": user, **given}).encode() for user in users]


def main() -> None:
    """Print a table: a row a way, a number of clients, and whether prefixes were held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, help="folder of a finished run with a fused ranker")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--requests", type=int, default=400, help="of each cell")
    parser.add_argument("--long", type=int, default=0, help="requests of one candidate, for the memory")
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.run_dir, given.serve)
        return
    bodies = users_of(given.run_dir)
    print("way | clients | prefixes | requests/s | p50, ms | p95, ms | p99, ms | CPU ms a request | failed")
    for way in given.ways:
        with served(given.run_dir, way) as (port, pid):
            asyncio.run(ask(port, 1, bodies[-WARM_UP:], pid))
            for number, clients in enumerate(given.clients):
                start = number * given.requests
                new = list(islice(cycle(bodies), start, start + given.requests))
                if way != "naive":
                    print(
                        f"{way} | {clients} | first | {asyncio.run(ask(port, clients, new, pid)).row()}",
                        flush=True,
                    )
                told = asyncio.run(ask(port, clients, new, pid))
                print(
                    f"{way} | {clients} | {'again' if way != 'naive' else 'none'} | {told.row()}", flush=True
                )
            if given.long and way == given.ways[-1]:
                flat(port, pid, users_of(given.run_dir, 1), given.long)


def flat(port: int, pid: int, bodies: list[bytes], count: int) -> None:
    """Print the memory of the server as requests go by, each of another user."""
    part = max(1, count // 10)
    done = 0
    while done < count:
        load = asyncio.run(ask(port, 16, list(islice(cycle(bodies), done, done + part)), pid))
        done += part
        print(f"after {done:,} requests: {resident_mb(pid):,.0f} MB, {load.failed} failed", flush=True)


if __name__ == "__main__":
    main()
