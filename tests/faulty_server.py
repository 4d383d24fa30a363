"""An OpenAI-compatible server, in a process of its own, that fails on purpose and counts what it did.

python tests/faulty_server.py --port 0 --seed 1 --faults 0.3 --delay 0.01

Every fault is real: a status, a connection that is closed, a reply that never ends or ends halfway. Which
request meets which fault is drawn from the seed. `GET /stats` tells the counts as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAULTS = (
    "429_seconds",
    "429_date",
    "500",
    "503",
    "close",
    "stall",
    "invalid_json",
    "half",
    "empty_choices",
)
STALL_S = 30.0
"""Longer than any time-out of the tests."""


class FaultyServer:
    """Answers from the prompt alone, but for the faults that are drawn."""

    def __init__(self, seed: int, faults: float, kinds: list[str], delay_s: float) -> None:
        self._stream = random.Random(seed)
        self._faults = faults
        self._kinds = kinds
        self._delay_s = delay_s
        self._started: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._answers_left: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._reply(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if request.startswith("GET"):
            _, _, left = request.split()[1].partition("/hold/")
            self._answers_left = int(left) if left else self._answers_left
            return await self._send(writer, 200, self.stats())
        asked = json.loads(body)
        prompt = json.dumps(asked["messages"], sort_keys=True)
        self._started[prompt] += 1
        if self._stream.random() < self._faults:
            kind = self._stream.choice(self._kinds)
            self._failed[kind] += 1
            return await self._fail(kind, writer)
        await asyncio.sleep(self._delay_s)
        if self._answers_left is not None:
            self._answers_left -= 1
            if self._answers_left < 0:
                self._failed["held"] += 1
                await asyncio.Event().wait()
        self._answered[prompt] += 1
        return await self._send(writer, 200, answer(asked["model"], prompt))

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self._started.total(),
            "prompts": len(self._started),
            "answered": self._answered.total(),
            "answered_twice": sum(times - 1 for times in self._answered.values()),
            "failed": dict(self._failed),
        }

    async def _fail(self, kind: str, writer: asyncio.StreamWriter) -> bool:
        said = {"error": {"message": f"fault {kind}"}}
        if kind == "429_seconds":
            return await self._send(writer, 429, said, {"Retry-After": "0.2"})
        if kind == "429_date":
            now = time.time() - 7200  # a server's clock that is two hours behind
            dates = {"Date": email.utils.formatdate(now, usegmt=True)}
            dates["Retry-After"] = email.utils.formatdate(now + 1, usegmt=True)
            return await self._send(writer, 429, said, dates)
        if kind in ("500", "503"):
            return await self._send(writer, int(kind), said)
        if kind == "invalid_json":
            return await self._send(writer, 200, '{"choices": [{"mess')
        if kind == "empty_choices":
            return await self._send(writer, 200, answer("m", "x") | {"choices": []})
        if kind == "half":
            payload = json.dumps(answer("m", "x")).encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(payload)}\r\n\r\n".encode())
            writer.write(payload[: len(payload) // 2])
            await writer.drain()
            return False
        if kind == "stall":
            await asyncio.sleep(STALL_S)
        return False  # closes the connection without a word

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, body: Any, headers: dict[str, str] | None = None
    ) -> bool:
        payload = (body if isinstance(body, str) else json.dumps(body)).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(payload))} | (headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + payload)
        await writer.drain()
        return True


def answer(model: str, prompt: str) -> dict[str, Any]:
    """A chat completion whose text follows from the prompt."""
    text = f"Likes things of kind {hashlib.sha256(prompt.encode()).hexdigest()[:8]} and buys them often."
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": 12, "total_tokens": 0},
    }


@dataclass
class Running:
    """The server's process, as a test sees it."""

    process: subprocess.Popen[str]
    port: int
    options: tuple[str, ...]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=60) as reply:
            return json.load(reply)

    def hold(self, answers: int) -> None:
        """Give so many more answers, then none: what is asked afterwards waits for good."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/hold/{answers}", timeout=60):
            pass

    def stop(self) -> None:
        """Take the server away, with all it remembers."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def start_again(self) -> None:
        """Bring it back at the same port."""
        self.process = _start(self.port, self.options)
        _read_port(self.process)


@contextmanager
def faulty_server(
    *, seed: int = 0, faults: float = 0.0, kinds: tuple[str, ...] = FAULTS, delay_s: float = 0.0
) -> Iterator[Running]:
    """Run the server for the length of the block."""
    options = ("--seed", str(seed), "--faults", str(faults), "--delay", str(delay_s), "--kinds", *kinds)
    process = _start(0, options)
    running = Running(process, _read_port(process), options)
    try:
        yield running
    finally:
        running.stop()


def _start(port: int, options: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__)), "--port", str(port), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)


def _read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=float, default=0.3)
    parser.add_argument("--kinds", nargs="*", default=list(FAULTS))
    parser.add_argument("--delay", type=float, default=0.0)
    given = parser.parse_args()
    faulty = FaultyServer(given.seed, given.faults, given.kinds, given.delay)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", given.port, backlog=1024)
    sockets: list[socket.socket] = list(server.sockets)
    print(sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
