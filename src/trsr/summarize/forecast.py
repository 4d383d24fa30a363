"""What a configuration's summaries will cost, and from a few real calls how long they will take."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import polars as pl
import sqlalchemy as sa

from trsr.config import Config
from trsr.config.summary import (
    Check,
    EndpointWriter,
    KeyphraseWriter,
    Limits,
    LocalWriter,
    OwnWriter,
    Sampling,
    TableWriter,
)
from trsr.data.images import tokens_written
from trsr.errors import BudgetError, ConfigError
from trsr.hf.loading import served_identity
from trsr.llm.generator import ApproximateChatTokens, Chat, ChatTokens, Completion, TokenizerChatTokens
from trsr.llm.local import find_style, identify
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import PROFILES, Item, Usage
from trsr.registry import PARADIGMS
from trsr.summarize.cost import Bill
from trsr.summarize.llm_writer import VERBS, Inquiry, PromptWriter, Wording
from trsr.summarize.paradigms import open_paradigm
from trsr.summarize.store import Store, Together
from trsr.summarize.store.database import ANSWERS
from trsr.summarize.summarizer import Summarizer, cut_history, summarize
from trsr.summarize.writer import check_table

Users = Sequence[tuple[str, Sequence[Item]]]
"""User ids with their histories, oldest item first."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A bill before the first call; `basis` says what the figures rest on, in whole sentences."""

    bill: Bill
    basis: str


@dataclass(frozen=True, slots=True)
class Speed:
    """A measured sample of calls: how many, and the time from the first sent to the last answer stored."""

    calls: int
    seconds: float

    @property
    def seconds_a_call(self) -> float | None:
        """Time that a call adds, with as many under way as the settings allow; None without any call."""
        return self.seconds / self.calls if self.calls else None


def forecast(config: Config, users: Users, speed: Speed | None = None, name: str = "") -> Forecast:
    """Walk through every user's summaries, and count the calls that aren't in the store.

    The writer isn't opened, and nothing is paid. Without a measured `speed` the time is unknown; without a
    name the row has the paradigm's. Raises StoreError when the store can't be read, and ModelError when the
    tokenizer can't be loaded.
    """
    settings, writer = config.summary, config.summary.writer
    row = name or settings.paradigm
    if (why := why_no_model(config)) is not None:
        table = check_table(config, [user for user, _ in users])
        basis = " ".join([f"No model is called: {why}.", *(f"{finding.sentence}." for finding in table)])
        seconds = 0.0 if table else None  # the keyphrase writer takes its time
        return Forecast(Bill.of(row, Usage(), 0, seconds, settings.price), basis)
    if isinstance(writer, OwnWriter):
        basis = f"What {writer.kind}, a writer of your own, calls and costs is not known beforehand."
        return Forecast(Bill(row, None, 0, None, None, None, None, settings.price.currency), basis)
    if isinstance(writer, LocalWriter):
        model = identify(writer)
        tokens: ChatTokens = TokenizerChatTokens(writer.model, writer.revision)
    else:
        assert isinstance(writer, EndpointWriter)
        model = served_identity(writer)
        tokens = TokenizerChatTokens(writer.tokenizer) if writer.tokenizer else ApproximateChatTokens()
    templates = Templates(config.prompt.domain, config.prompt.templates)
    style = find_style(writer) if isinstance(writer, LocalWriter) else writer.style
    wording = Wording(
        model, templates, settings.sampling, ApproximateTokens(), config.items.max_tokens, style
    )
    with Store(config.store_url) as store:
        experience = learn(store, model, tokens, settings.sampling)
        planner = Planner(wording, store, settings.checks, tokens, experience)
        blocks = ((user_id, cut_history(history, config)) for user_id, history in users)
        planned = summarize(blocks, open_paradigm(settings.paradigm, settings), planner, progress=False)
    reused = sum(summary.usage.calls_reused for summary in planned)
    each = None if speed is None else speed.seconds_a_call
    seconds = None if each is None else each * planner.paid.calls
    bill = Bill.of(row, planner.paid, reused, seconds if planner.paid.calls else 0.0, settings.price)
    return Forecast(bill, _basis(tokens, experience, settings.sampling.max_new_tokens, speed))


def side_by_side(config: Config, users: Users, speed: Speed | None = None) -> list[Forecast]:
    """Forecast the paradigms that write: the built-in ones, and the configuration's own."""
    if isinstance(config.summary.writer, TableWriter):  # every paradigm takes its text
        return [forecast(config, users, name=PROFILES)]
    paradigms = [name for name in dict.fromkeys((*PARADIGMS, config.summary.paradigm)) if name != "none"]
    return [forecast(with_summary(config, paradigm=paradigm), users, speed) for paradigm in paradigms]


def measure(config: Config, items: pl.DataFrame, users: Users, calls: int) -> Speed:
    """Make real calls and take their time; the answers are stored, so a run doesn't pay for them again.

    `calls` is the most calls to make: with several times `summary.writer.concurrency`, the time a call adds
    is that of a long run. The caps of `summary.limits` hold for the sample too. `items` have the fields that
    writers read. Raises ConfigError when the configuration calls no model, WriterError when the model can't
    answer.
    """
    if why_no_model(config) is not None:
        message = "--measure makes calls to a model, and this configuration calls none; leave it out"
        raise ConfigError(message)
    limits = config.summary.limits
    most = calls if limits.max_calls is None else min(calls, limits.max_calls)
    capped = with_summary(config, limits=Limits(max_calls=most, max_cost=limits.max_cost))
    with Summarizer(capped, items) as summarizer:
        began = time.monotonic()
        with suppress(BudgetError):  # the sample is full
            summarizer.summarize(users, progress=False)
        return Speed(summarizer.spent.calls, time.monotonic() - began)


def why_no_model(config: Config) -> str | None:
    """Say why the configuration calls no model for summaries; None where one may be called."""
    writer = config.summary.writer
    if config.summary.paradigm == "none":
        return "without summaries"
    if isinstance(writer, TableWriter):
        return f"the summaries are those of the table {writer.path.name}"
    return "the keyphrase writer runs here" if isinstance(writer, KeyphraseWriter) else None


def with_summary(config: Config, **changes: object) -> Config:
    """Return the configuration with other settings of its summary section."""
    return config.model_copy(update={"summary": config.summary.model_copy(update=changes)})


def _basis(tokens: ChatTokens, experience: Experience, limit: int, speed: Speed | None) -> str:
    if tokens.is_exact:
        prompts = "Prompts are counted with the model's own tokenizer and chat template."
    elif experience.error is None:
        prompts = (
            "Prompts are counted approximately, and by how much that is off isn't known before the first "
            "answers: name a tokenizer (summary.writer.tokenizer), or make some (--measure)."
        )
    else:
        prompts = (
            f"Prompts are counted approximately, times {experience.ratio:.2f} by the model's own counts of "
            f"{experience.seen:,} stored prompts; a single prompt is {experience.error:.0%} off on average."
        )
    if experience.lengths:
        answers = f"Answers are taken to be as long as {experience.seen:,} stored ones of this model."
    else:
        answers = (
            "No answer of this model that tells its length is stored yet: each is taken to be "
            f"{limit:,} tokens, the limit."
        )
    pace = "" if speed is None else f" The time is that of {speed.calls:,} calls made now."
    return f"{prompts} {answers}{pace} Second tries for useless answers are not foreseen."


_SAMPLE: Final = 200
"""Stored answers that are looked at for the usual length of an answer, and the error of a count."""


@dataclass(frozen=True, slots=True)
class Experience:
    """What the `seen` stored answers of a model tell about those to come.

    `lengths` is verb to the mean number of its answers' tokens, `ratio` the model's prompt tokens for one
    that was counted here, and `error` by what share a counted prompt, times the ratio, is off in the mean;
    None when not measured.
    """

    lengths: dict[str, float] = field(default_factory=dict)
    ratio: float = 1.0
    error: float | None = None
    seen: int = 0


class Planner(PromptWriter):
    """A writer that writes nothing: it follows stored answers, and counts the calls that aren't there.

    Where an answer isn't stored, the summary that it would be is unknown; prompts that rest on it are counted
    with a summary of the usual length in its place, and taken to be unlike each other (where answers turn out
    equal, a run pays for less). Repairs of answers that are not there yet can't be known, and are not
    counted.

    The store is only read. `checks` is what makes a stored answer useless; of answers of which nothing is
    known, the limit of the sampling is the length. `paid` are the calls that a run would pay for, and their
    tokens; those that the store would answer are in the summaries' usage.
    """

    def __init__(
        self,
        wording: Wording,
        store: Store,
        checks: Collection[Check],
        tokens: ChatTokens,
        experience: Experience,
    ) -> None:
        super().__init__("plan", wording, checks)
        self._tokens = tokens
        self._experience = experience
        self._look_up = Together[str, Completion | None](lambda keys: [*map(store.get_many(keys).get, keys)])
        self._expected: dict[str, int] = {}
        self.paid = Usage()

    async def _advance(self, inquiry: Inquiry) -> None:
        mark = f"Summary {inquiry.first.key[:16]}"
        planned = mark if inquiry.profile is None else f"ADD lately: {mark}"
        if mark in self._expected:  # counted before
            inquiry.text, inquiry.usage = planned, Usage(calls_reused=1)
        elif (answer := await self._look_up(inquiry.question.key)) is not None:
            inquiry.take(answer, self._wording, self._checks, paid_now=False)
        else:
            inquiry.text = planned
            inquiry.usage += self._count(mark, inquiry)

    def _count(self, mark: str, inquiry: Inquiry) -> Usage:
        """Count one call, whose answer the mark stands for: its length is put right in later prompts."""
        counted = self._tokens.count(inquiry.question.chat)
        for summary in inquiry.summaries:
            if summary.text in self._expected:
                counted += self._expected[summary.text] - self._tokens.count(Chat(summary.text))
        limit = self._wording.sampling.max_new_tokens
        length = round(self._experience.lengths.get(inquiry.verb, limit))
        usage = Usage(1, 0, max(1, round(counted * self._experience.ratio)), length)
        self.paid += usage
        self._expected[mark] = round(length / self._experience.ratio)
        return usage


def learn(
    store: Store, model: str, tokens: ChatTokens, sampling: Sampling, verbs: Sequence[str] = VERBS
) -> Experience:
    """See what the store's answers of a model tell about the length of prompts and answers of these verbs.

    Where `tokens` isn't exact, its counts are compared with the model's own. Answers that are longer than the
    limit of `sampling` were made under another one.
    """
    columns = ANSWERS.c
    wanted = (columns.template, columns.system_prompt, columns.user_prompt)
    counts = (columns.prompt_tokens, columns.completion_tokens)

    def read(connection: sa.Connection) -> list[sa.Row[tuple[str, str, str, int, int]]]:
        rows = sa.select(*wanted, *counts).where(
            columns.model == model,
            columns.completion_tokens.between(1, sampling.max_new_tokens),
            columns.template.like("caption %") == ("caption" in verbs),
        )
        return list(connection.execute(rows.order_by(columns.created_at.desc()).limit(_SAMPLE)))

    rows = store.database.run("read", read)
    lengths: dict[str, float] = {}
    for verb in verbs:
        seen = [row.completion_tokens for row in rows if f" {verb} " in f" {row.template} "]
        if seen:
            lengths[verb] = sum(seen) / len(seen)
    if rows:  # what is known of one verb is the best guess for the others: the length asked for is the same
        mean = sum(row.completion_tokens for row in rows) / len(rows)
        lengths = dict.fromkeys(verbs, mean) | lengths
    told = [row for row in rows if row.prompt_tokens]
    if tokens.is_exact or not told:
        return Experience(lengths, seen=len(rows))
    counted = [
        (tokens.count(Chat(row.user_prompt, row.system_prompt)) + tokens_written(row.user_prompt)) or 1
        for row in told
    ]
    ratio = sum(row.prompt_tokens for row in told) / sum(counted)
    errors = [abs(own * ratio / row.prompt_tokens - 1) for own, row in zip(counted, told, strict=True)]
    return Experience(lengths, ratio, sum(errors) / len(errors), len(rows))
