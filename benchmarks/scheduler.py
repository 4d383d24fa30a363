"""What a call costs the client: a bare HTTP loop, the scheduler, and whole summaries with their store.

python benchmarks/scheduler.py              # 10,000 users of 5 blocks; writes into docs/reliability.md
python benchmarks/scheduler.py --quick      # a smoke run, nothing is written
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import httpx2
from sections import write_section

from trsr.config.summary import Check, EndpointWriter, Sampling, Summarization
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import Answering, Chat
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import Block, Item
from trsr.summarize.llm_writer import LanguageModelWriter
from trsr.summarize.paradigms import open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import summarize

ROOT = Path(__file__).parent.parent
BLOCKS, BLOCK_SIZE = 5, 5


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one way: by the clock, and of this process's CPU."""

    way: str
    calls: int
    wall_s: float
    cpu_s: float


@contextmanager
def fast_server() -> Iterator[str]:
    """The server in a process of its own; yields the root of its API."""
    command = [sys.executable, str(Path(__file__).with_name("fast_server.py"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()


def measure(way: str, calls: int, work: Callable[[], object]) -> Cost:
    """Run `work` once; only this process is counted, not the server."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(way, calls, time.perf_counter() - wall, time.process_time() - cpu)


async def bare_loop(base_url: str, chats: list[Chat], concurrency: int) -> None:
    """The least that sends the same requests: a pool of workers over one HTTP client."""
    left = iter(chats)

    async def work(client: httpx2.AsyncClient) -> None:
        for chat in left:
            messages = [{"role": "system", "content": chat.system}, {"role": "user", "content": chat.user}]
            body = {"model": "fast", "messages": messages, "max_tokens": 150, "temperature": 0, "seed": 0}
            reply = await client.post(f"{base_url}/chat/completions", json=body)
            assert reply.json()["choices"][0]["message"]["content"]

    async with httpx2.AsyncClient() as client:
        await asyncio.gather(*(work(client) for _ in range(concurrency)))


async def scheduled(generator: EndpointGenerator, chats: list[Chat], concurrency: int) -> None:
    """The same pool over the generator's session: turns, limits, checks of the reply and its tokens."""
    left = iter(chats)

    async def work(answer: Answering) -> None:
        for chat in left:
            async with answer(chat) as completion:
                assert completion.text

    async with generator.session(Sampling()) as answer:
        await asyncio.gather(*(work(answer) for _ in range(concurrency)))


def make_users(count: int) -> list[tuple[str, tuple[Block, ...]]]:
    """Users with items of their own, so that no two prompts are alike."""
    return [
        (
            f"user {number}",
            tuple(
                Block(tuple(make_item(number, index, place) for place in range(BLOCK_SIZE)), index)
                for index in range(BLOCKS)
            ),
        )
        for number in range(count)
    ]


def make_item(user: int, block: int, place: int) -> Item:
    """An item of about twenty tokens."""
    title = f"Walnut desk lamp {user}-{block}-{place} with a linen shade, brass foot and a dimmer"
    return Item(f"{user}-{block}-{place}", {"title": title, "brand": "Bolt", "price": "89"})


def make_chats(count: int) -> list[Chat]:
    """Prompts as long as those of the summaries."""
    templates = Templates("shopping")
    system = templates.render("system").strip()
    chats = []
    for number in range(count):
        lines = [
            "; ".join(f"{name}: {text}" for name, text in make_item(number, 0, place).fields.items())
            for place in range(BLOCK_SIZE)
        ]
        chats.append(Chat(templates.render("describe", items=lines).strip(), system))
    return chats


def run(users: int, stored_users: int, concurrency: int) -> Iterator[Cost]:
    """Run the three ways, one after the other, each against a server of its own."""
    calls = users * BLOCKS
    chats = make_chats(calls)

    def generator(base_url: str) -> EndpointGenerator:
        return EndpointGenerator(
            EndpointWriter(
                kind="endpoint",
                base_url=base_url,
                model="fast",
                concurrency=concurrency,
                check_prompt_tokens=False,  # the server answers without reading
            )
        )

    with fast_server() as url:
        yield measure("bare HTTP loop", calls, lambda: asyncio.run(bare_loop(url, chats, concurrency)))
    with fast_server() as url:
        yield measure("scheduler", calls, lambda: asyncio.run(scheduled(generator(url), chats, concurrency)))
    with (
        tempfile.TemporaryDirectory() as folder,
        fast_server() as url,
        Store(f"sqlite:///{folder}/answers.db") as store,
    ):
        writer = LanguageModelWriter(
            generator(url),
            Templates("shopping"),
            Sampling(),
            store,
            ApproximateTokens(),
            64,
            checks=get_args(Check),
            ahead=2 * concurrency,
        )
        people, paradigm = make_users(stored_users), open_paradigm("recurrent", Summarization())
        yield measure(
            "whole summaries: scheduler, prompts, checks, SQLite store",
            stored_users * BLOCKS,
            lambda: summarize(people, paradigm, writer, progress=False),
        )


def table(costs: list[Cost], concurrency: int) -> str:
    """Write all results as Markdown."""
    bare = costs[0]
    lines = [
        f"Measured on {platform.machine()}, Python {platform.python_version()}, httpx2 {httpx2.__version__}, "
        f"{concurrency} requests at once; CPU of the client's process alone.",
        "",
        "| way | calls | seconds | calls a second | CPU a call, ms | over the bare loop, ms |",
        "|---|---|---|---|---|---|",
    ]
    for cost in costs:
        each = 1000 * cost.cpu_s / cost.calls
        over = each - 1000 * bare.cpu_s / bare.calls
        lines.append(
            f"| {cost.way} | {cost.calls:,} | {cost.wall_s:.0f} | {cost.calls / cost.wall_s:,.0f} | "
            f"{each:.2f} | {over:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run all ways and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds that writes nothing")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--stored-users", type=int, help="users of the whole summaries [default: --users]")
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where reliability.md lies")
    arguments = parser.parse_args()
    users = 40 if arguments.quick else arguments.users
    costs = []
    for cost in run(users, min(users, arguments.stored_users or users), arguments.concurrency):
        print(cost, flush=True)
        costs.append(cost)
    print(table(costs, arguments.concurrency))
    if not arguments.quick:
        write_section(arguments.out / "reliability.md", "scheduler", table(costs, arguments.concurrency))


if __name__ == "__main__":
    main()
