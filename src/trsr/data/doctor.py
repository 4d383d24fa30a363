"""What is wrong with somebody's data, and how many users are left after each rule."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from trsr.config import Config
from trsr.config.data import HistoryWindow
from trsr.data.dataset import Dataset
from trsr.data.images import ImageSource
from trsr.data.notes import printable
from trsr.data.prepare import choose
from trsr.data.readers.registry import detect, read
from trsr.data.repair import NO_INTERACTIONS, NOTHING_KNOWN
from trsr.errors import DataError
from trsr.records import ITEMS, TIMES, Finding

__all__ = ["Diagnosis", "FieldHealth", "UserStep", "detect", "examine", "render"]


@dataclass(frozen=True, slots=True)
class FieldHealth:
    """One text field: items whose text is not empty, their mean number of words, and an example.

    The example is the start of the first text that is there, fit for a terminal.
    """

    name: str
    filled: int
    words: float
    example: str


@dataclass(frozen=True, slots=True)
class UserStep:
    """How many users are left after a rule, put in words; of the last steps, users whom it concerns."""

    rule: str
    users: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings about a data source, its counts after repair, and what becomes of its users.

    `length_quartiles` has the shortest, lower quartile, median, upper quartile and longest history; `steps`
    the users left after each rule, in the order of the rules. `refusal` says why `trsr prepare` would refuse
    the data with these settings; empty when it wouldn't.
    """

    format: str
    items: int
    interactions: int
    length_quartiles: tuple[int, int, int, int, int]
    timed_users: int
    fields: tuple[FieldHealth, ...]
    steps: tuple[UserStep, ...]
    findings: tuple[Finding, ...]
    refusal: str

    @property
    def usable_users(self) -> int:
        """Users that take part in a run with these settings."""
        return 0 if self.refusal else self.steps[-2].users


def examine(config: Config) -> Diagnosis:
    """Read a configuration's data, say what is wrong with it, and try whether a run could be prepared.

    Raises DataError when it can't be read at all; the message says what to mend.

    Examples
    --------
    >>> from trsr.config.data import DemoData
    >>> diagnosis = examine(Config(data=DemoData(users=100, items=60)))
    >>> diagnosis.steps[0].users, diagnosis.refusal
    (100, '')
    """
    dataset, findings = read(config.data)
    pictures, refusal = _images(dataset, config)
    findings += pictures
    lengths = dataset.histories[ITEMS].list.len()
    quartiles = tuple(int(lengths.quantile(share, "nearest") or 0) for share in (0, 0.25, 0.5, 0.75, 1))
    return Diagnosis(
        format=config.data.format,
        items=dataset.items.height,
        interactions=int(lengths.sum()),
        length_quartiles=quartiles,  # type: ignore[arg-type]
        timed_users=dataset.histories.height - dataset.histories[TIMES].null_count(),
        fields=_fields(dataset),
        steps=_steps(lengths, findings, config.history),
        findings=findings,
        refusal=_refusal(dataset, config) or refusal,
    )


def _images(dataset: Dataset, config: Config) -> tuple[tuple[Finding, ...], str]:
    """Look at the items' images, where the settings ask for captions; nobody is asked for any."""
    if config.images is None:
        return (), ""
    try:
        return ImageSource(config.images, config.data).look(dataset.items)[1], ""
    except DataError as error:
        return error.findings, str(error)


def _refusal(dataset: Dataset, config: Config) -> str:
    try:
        choose(dataset, (), config)
    except DataError as error:
        return str(error)
    return ""


def _steps(lengths: pl.Series, findings: tuple[Finding, ...], window: HistoryWindow) -> tuple[UserStep, ...]:
    lost = {
        rule: sum(f.count for f in findings if f.rule == rule) for rule in (NO_INTERACTIONS, NOTHING_KNOWN)
    }
    known = len(lengths)
    with_any = known + lost[NOTHING_KNOWN]
    return (
        UserStep("in the files", with_any + lost[NO_INTERACTIONS]),
        UserStep("with any interaction", with_any),
        UserStep("with an interaction left after repair (known items, times)", known),
        UserStep(f"with at least {window.min} interactions", int((lengths >= window.min).sum())),
        UserStep(f"of these, cut to their newest {window.max}", int((lengths > window.max).sum())),
    )


def _fields(dataset: Dataset) -> tuple[FieldHealth, ...]:
    return tuple(_field(dataset.items[name]) for name in dataset.fields)


def _field(texts: pl.Series) -> FieldHealth:
    filled = texts.filter(texts.str.strip_chars() != "")
    words = filled.str.count_matches(r"\S+").mean()
    example = filled.head(1).to_frame("text").select(printable(pl.col("text")))["text"].to_list()
    return FieldHealth(
        texts.name, len(filled), words if isinstance(words, float) else 0.0, *(example or [""])
    )


def render(diagnosis: Diagnosis) -> str:
    """Write a diagnosis as plain text for a terminal."""
    low, quarter, middle, three_quarters, high = diagnosis.length_quartiles
    timed = (
        f"{diagnosis.timed_users:,} users with times"
        if diagnosis.timed_users
        else "no times: row order is time"
    )
    lines = [
        f"format {diagnosis.format}: {diagnosis.items:,} items, {diagnosis.interactions:,} interactions",
        timed,
        f"history length: {low} to {high}, quartiles {quarter}, {middle}, {three_quarters}",
        "",
        "Text fields",
        *(
            f"  {field.name:<16} {field.filled:>9,} items ({field.filled / diagnosis.items:4.0%}), "
            f"{field.words:5.1f} words, such as: {field.example[:48]}"
            for field in diagnosis.fields
        ),
        "",
        "Users",
        *(f"  {step.users:>9,}  {step.rule}" for step in diagnosis.steps),
        "",
        "Findings" if diagnosis.findings else "Findings: none",
        *map(str, diagnosis.findings),
        "",
        _verdict(diagnosis),
    ]
    return "\n".join(lines)


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.refusal:
        return f"No user takes part: `trsr prepare` refuses these data and settings. {diagnosis.refusal}"
    return f"{diagnosis.usable_users:,} users take part with these settings."
