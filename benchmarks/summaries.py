"""Recurrent summaries by a language model in this process: one call at a time, padded waves, and slots.

python benchmarks/summaries.py            # writes its table into docs/performance.md
python benchmarks/summaries.py --quick    # a smoke run, nothing is written
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from measuring import Cost, measure
from sections import write_section
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trsr.config import Config
from trsr.config.data import DemoData
from trsr.config.summary import LocalWriter, Sampling, Summarization
from trsr.data.prepare import prepare
from trsr.llm.generator import Answering, Chat, Completion, TextGenerator
from trsr.llm.local import LocalGenerator
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import BUILT_IN, Templates
from trsr.records import ITEM, Block, Item, UserSummary
from trsr.summarize.llm_writer import LanguageModelWriter
from trsr.summarize.paradigms import open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import summarize

ROOT = Path(__file__).parent.parent
BLOCKS, BLOCK_SIZE = 5, 5
VOCABULARY = 8192
NEW_TOKENS = 100
ENDS = 24
"""Tokens that end an answer: of random weights, each is as likely as any other token."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one way of generating came to."""

    way: str
    cost: Cost
    answers: list[str]
    new_tokens: int
    prompt_tokens: int


class OneByOne:
    """Good engineering without batches: transformers' own cached decoding, one chat a call."""

    def __init__(self, generator: LocalGenerator) -> None:
        self.identity, self.style = generator.identity, generator.style
        self._generator = generator

    @asynccontextmanager
    async def session(self, sampling: Sampling) -> AsyncIterator[Answering]:
        place = asyncio.Lock()
        async with self._generator.session(sampling) as answer:

            @asynccontextmanager
            async def one(chat: Chat) -> AsyncIterator[Completion]:
                async with place, answer(chat) as completion:
                    yield completion

            yield one


def make_model(folder: Path, texts: Sequence[str], hidden: int, layers: int) -> None:
    """A Qwen2 model with random weights and a byte-level tokenizer of the catalogue's words."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, made_up_words()], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.08,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = random.Random(1).sample(range(300, len(tokenizer)), ENDS)
    model.save_pretrained(folder)


def made_up_words() -> str:
    """Words for a vocabulary as large as a real one; the demo's catalogue has too few."""
    stream = random.Random(0)
    syllables = [first + vowel for first in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
    words = {"".join(stream.choices(syllables, k=stream.randint(2, 4))) for _ in range(8000)}
    return " ".join(word for word in sorted(words) for _ in range(3))


def make_users(count: int) -> list[tuple[str, tuple[Block, ...]]]:
    """Users of the demo's catalogue, each with the same number of blocks."""
    catalogue = prepare(Config(data=DemoData(users=100, items=800))).items
    items = [
        Item(str(row[ITEM]), {name: str(text) for name, text in row.items() if name != ITEM and text})
        for row in catalogue.iter_rows(named=True)
    ]
    stream = random.Random(0)
    return [
        (
            f"user {number}",
            tuple(Block(tuple(stream.sample(items, BLOCK_SIZE)), index) for index in range(BLOCKS)),
        )
        for number in range(count)
    ]


def run(
    way: str, generator: TextGenerator, users: Sequence[tuple[str, tuple[Block, ...]]], new_tokens: int
) -> Result:
    """Summarise all users, with an empty store."""
    found: list[UserSummary] = []

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(f"sqlite:///{folder}/answers.db")
            sampling = Sampling(max_new_tokens=new_tokens)
            writer = LanguageModelWriter(
                generator, Templates("shopping"), sampling, store, ApproximateTokens(), 20, checks=()
            )
            paradigm = open_paradigm("recurrent", Summarization())
            found[:] = summarize(users, paradigm, writer, progress=False)

    cost = measure(work, runs=1, enough_s=1)
    return Result(
        way,
        cost,
        [step.text for user in found for step in user.steps],
        sum(user.usage.completion_tokens for user in found),
        sum(user.usage.prompt_tokens for user in found),
    )


def contenders(folder: Path, rows: int) -> Iterator[tuple[str, Callable[[], TextGenerator]]]:
    """The ways, the slowest last."""

    def local(*, padded: bool, batch: int) -> LocalGenerator:
        generator = LocalGenerator(
            LocalWriter(kind="local", model=str(folder), device="cpu", batch_size=batch)
        )
        if padded:
            generator._model.set_attn_implementation("sdpa")
            generator.why_padded = "to compare"
        return generator

    yield f"slots, {rows} rows", lambda: local(padded=False, batch=rows)
    yield "slots, 16 rows (the default)", lambda: local(padded=False, batch=16)
    yield f"padded waves of {rows}", lambda: local(padded=True, batch=rows)
    yield "one call at a time", lambda: OneByOne(local(padded=True, batch=1))


def main() -> None:
    """Run all ways on the same users and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds that writes nothing")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="where performance.md lies")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("trsr").setLevel(logging.ERROR)
    count, (hidden, layers) = (3, (64, 2)) if arguments.quick else (arguments.users, (256, 6))
    new_tokens = 12 if arguments.quick else NEW_TOKENS
    users = make_users(count)
    texts = [path.read_text() for path in BUILT_IN.glob("*.jinja")]
    texts += [
        " ".join(item.fields.values()) for _, blocks in users for block in blocks for item in block.items
    ]
    results = []
    with tempfile.TemporaryDirectory() as name:
        make_model(Path(name), texts, hidden, layers)
        for way, make in contenders(Path(name), arguments.rows):
            generator = make()
            run("warm-up", generator, users[:1], new_tokens)
            generator = make()  # without the memory that the warm-up took
            results.append(run(way, generator, users, new_tokens))
            print(describe(results[-1]), flush=True)
    slowest = results[-1]
    for result in results:
        same = sum(a == b for a, b in zip(result.answers, slowest.answers, strict=True))
        faster = slowest.cost.cpu_s / result.cost.cpu_s
        print(f"{result.way}: {faster:.1f}x, {same} of {len(result.answers)} alike")
    if not arguments.quick:
        records = ROOT / "runs" / "bench" / "summaries.json"
        records.parent.mkdir(parents=True, exist_ok=True)
        records.write_text(json.dumps([asdict(result) for result in results], indent=1))
        machine = f"{platform.machine()}, torch {torch.__version__}, {arguments.threads} thread(s), float32"
        write_section(arguments.out / "performance.md", "summaries", table(results, count, machine))


def describe(result: Result) -> str:
    """One line of progress."""
    cost = result.cost
    return (
        f"{result.way}: {cost.wall_s:.1f} s ({cost.cpu_s:.1f} CPU), {result.new_tokens:,} new tokens, "
        f"{result.prompt_tokens:,} prompt tokens, {cost.memory_mb:.0f} MB"
    )


def table(results: Sequence[Result], users: int, machine: str) -> str:
    """Write all results as Markdown."""
    slowest = results[-1]
    calls = len(slowest.answers)
    prompt, answer = slowest.prompt_tokens / calls, slowest.new_tokens / calls
    lines = [
        f"Measured on {machine}: {users} users, {BLOCKS} blocks each, {calls} calls, "
        f"{prompt:.0f} tokens a prompt and {answer:.0f} an answer.",
        "",
        "| way | seconds: wall (CPU) | times faster, wall | CPU | peak memory, MB | answers alike |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        cost, base = result.cost, slowest.cost
        same = sum(a == b for a, b in zip(result.answers, slowest.answers, strict=True))
        lines.append(
            f"| {result.way} | {cost.wall_s:.1f} ({cost.cpu_s:.1f}) | {base.wall_s / cost.wall_s:.1f}x | "
            f"**{base.cpu_s / cost.cpu_s:.1f}x** | {cost.memory_mb:.0f} | {same} of {calls} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
