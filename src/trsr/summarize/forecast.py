"""What a configuration's summaries will cost, and from a few real calls how long they will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import polars as pl

from trsr.config import Config
from trsr.config.summary import KeyphraseWriter, Limits, LocalWriter
from trsr.errors import BudgetError, ConfigError
from trsr.models.chat_tokens import ApproximateChatTokens, ChatTokens, TokenizerChatTokens
from trsr.models.identity import served_identity
from trsr.models.local import identify
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import ApproximateTokens
from trsr.records import Item, Usage
from trsr.summarize.bill import Bill
from trsr.summarize.plan import Experience, Planner, learn
from trsr.summarize.questions import Wording
from trsr.summarize.runner import make_paradigm, summarize
from trsr.summarize.store import Store
from trsr.summarize.summarizer import Summarizer, cut_history

Users = Sequence[tuple[str, Sequence[Item]]]
"""User ids with their histories, oldest item first."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """A bill before the first call.

    Parameters
    ----------
    bill
        What will be paid.
    basis
        What the figures rest on, in whole sentences.
    """

    bill: Bill
    basis: str


@dataclass(frozen=True, slots=True)
class Speed:
    """A measured sample of calls.

    Parameters
    ----------
    calls
        Calls that were made; their answers are stored.
    seconds
        Time from the first being sent to the last being stored.
    """

    calls: int
    seconds: float

    @property
    def seconds_a_call(self) -> float | None:
        """Time that a call adds, with as many under way as the settings allow; None without any call."""
        return self.seconds / self.calls if self.calls else None


def forecast(config: Config, users: Users, speed: Speed | None = None, name: str = "") -> Forecast:
    """Walk through every user's summaries, and count the calls that aren't in the store.

    Parameters
    ----------
    config
        The configuration; its writer isn't opened, and nothing is paid.
    users
        Whose summaries.
    speed
        A measured sample; without one the time is unknown.
    name
        Name of the row; the paradigm's when empty.

    Raises
    ------
    StoreError
        When the store can't be read.
    ModelError
        When the tokenizer can't be loaded.
    """
    settings, writer = config.summary, config.summary.writer
    row = name or settings.paradigm
    if settings.paradigm == "none" or isinstance(writer, KeyphraseWriter):
        who = "without summaries" if settings.paradigm == "none" else "the keyphrase writer runs here"
        return Forecast(Bill.of(row, Usage(), 0, None, settings.price), f"No model is called: {who}.")
    if isinstance(writer, LocalWriter):
        model = identify(writer)
        tokens: ChatTokens = TokenizerChatTokens(writer.model, writer.revision)
    else:
        model = served_identity(writer)
        tokens = TokenizerChatTokens(writer.tokenizer) if writer.tokenizer else ApproximateChatTokens()
    templates = Templates(config.prompt.domain, config.prompt.templates)
    wording = Wording(model, templates, settings.sampling, ApproximateTokens(), config.items.max_tokens)
    with Store(config.store_url) as store:
        experience = learn(store, model, tokens, settings.sampling)
        planner = Planner(wording, templates, store, settings.checks, tokens, experience, settings.sampling)
        blocks = ((user_id, cut_history(history, config)) for user_id, history in users)
        summarize(blocks, make_paradigm(settings), planner, progress=False)
    each = None if speed is None else speed.seconds_a_call
    seconds = None if each is None else each * planner.paid.calls
    bill = Bill.of(row, planner.paid, planner.reused, seconds if planner.paid.calls else 0.0, settings.price)
    return Forecast(bill, _basis(tokens, experience, settings.sampling.max_new_tokens, speed))


def side_by_side(config: Config, users: Users, speed: Speed | None = None) -> list[Forecast]:
    """Forecast both paradigms."""
    paradigms: tuple[Literal["recurrent", "hierarchical"], ...] = ("recurrent", "hierarchical")
    return [forecast(with_summary(config, paradigm=paradigm), users, speed) for paradigm in paradigms]


def measure(config: Config, items: pl.DataFrame, users: Users, calls: int) -> Speed:
    """Make real calls and take their time; the answers are stored, so a run doesn't pay for them again.

    Parameters
    ----------
    config
        The configuration; the caps of `summary.limits` hold for the sample too.
    items
        The catalogue with the fields that writers read.
    users
        Whose summaries are begun.
    calls
        Most calls to make. With several times `summary.writer.concurrency`, the time
        a call adds is that of a long run.

    Raises
    ------
    ConfigError
        When the configuration calls no model.
    WriterError
        When the model can't answer.
    """
    if config.summary.paradigm == "none" or isinstance(config.summary.writer, KeyphraseWriter):
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
