"""What processes do that summarise made-up users and nothing else, to be killed often."""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from pathlib import Path

from trsr.config.summary import EndpointWriter, Sampling, Summarization
from trsr.errors import TrsrError
from trsr.llm.endpoint import EndpointGenerator
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import Block, Item
from trsr.summarize.llm_writer import LanguageModelWriter
from trsr.summarize.paradigms import open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import summarize

CONCURRENCY = 3
BLOCKS = 5


def make_users(count: int) -> list[tuple[str, tuple[Block, ...]]]:
    return [
        (
            f"user {number}",
            tuple(
                Block((Item(f"{number}-{index}", {"title": f"Thing {number} of kind {index}"}),), index)
                for index in range(BLOCKS)
            ),
        )
        for number in range(count)
    ]


def summarise(
    base_url: str,
    store_url: str,
    users: int,
    out: Path,
    *,
    timeout_s: float = 10,
    jumping_clock: bool = False,
    small_files: bool = False,
) -> None:
    """Write the users' summaries; an error of ours ends the process with its name."""
    if jumping_clock:
        jumps, clock = random.Random(0), time.time
        time.time = lambda: clock() + jumps.uniform(-86_400.0, 86_400.0)
    if small_files:  # no file grows over 200 kB: the store's log meets that in the middle of the run
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        _summarise(base_url, store_url, users, out, timeout_s)
    except TrsrError as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _summarise(base_url: str, store_url: str, users: int, out: Path, timeout_s: float) -> None:
    settings = EndpointWriter(
        kind="endpoint",
        base_url=base_url,
        model="m",
        concurrency=CONCURRENCY,
        timeout_s=timeout_s,
        max_retries=12,
    )
    with Store(store_url) as store:
        writer = LanguageModelWriter(
            EndpointGenerator(settings),
            Templates("shopping"),
            Sampling(),
            store,
            ApproximateTokens(),
            32,
            checks=("cut", "refusal"),
            ahead=2 * CONCURRENCY,
        )
        paradigm = open_paradigm("recurrent", Summarization())
        written = summarize(make_users(users), paradigm, writer, progress=False)
    finals = {user.user_id: user.failed or user.final.text for user in written}
    out.write_text(json.dumps(finals), encoding="utf-8")
