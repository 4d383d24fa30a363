"""A process that summarises made-up users and nothing else: it starts fast, to be killed often.

python tests/summarize_users.py BASE_URL STORE_URL USERS OUT.json [JUMPING_CLOCK]
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from trsr.config.summary import EndpointWriter, Sampling
from trsr.errors import TrsrError
from trsr.models.endpoint import EndpointGenerator
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import ApproximateTokens
from trsr.records import Block, Item
from trsr.summarize.language_model import LanguageModelWriter
from trsr.summarize.paradigms import recurrent
from trsr.summarize.runner import summarize
from trsr.summarize.store import Store

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


def main() -> None:
    base_url, store_url, count, out = sys.argv[1:5]
    if sys.argv[5:] == ["JUMPING_CLOCK"]:
        jumps, clock = random.Random(0), time.time
        time.time = lambda: clock() + jumps.uniform(-86_400.0, 86_400.0)
    settings = EndpointWriter(
        kind="endpoint", base_url=base_url, model="m", concurrency=CONCURRENCY, timeout_s=1, max_retries=12
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
        written = summarize(make_users(int(count)), recurrent, writer, progress=False)
    finals = {user.user_id: user.failed or user.final.text for user in written}
    Path(out).write_text(json.dumps(finals), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except TrsrError as error:
        sys.exit(f"{type(error).__name__}: {error}")
