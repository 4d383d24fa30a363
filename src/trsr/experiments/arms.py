"""The arms of the study of summaries: what the language model is told in each, at one budget of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import read_parquet, write_parquet
from trsr.config import Config
from trsr.config.evaluation import ArmName
from trsr.config.summary import TableWriter, Writer
from trsr.data.prepare import Prepared
from trsr.experiments.variants import Variant
from trsr.records import HISTORY, SPLIT, SUMMARY, TIMES, USER
from trsr.stages.work import Artifact, Made, Work

SHOWN: Final[Mapping[ArmName, str]] = {
    "a": "{recent} recent items",
    "b": "recent items until the budget is full",
    "c": "the whole history, budget lifted",
    "d": "summary and {recent} recent items",
    "e": "summary alone",
    "f": "another user’s summary and {recent} recent items",
    "g": "summary of the {recent} recent items, and these",
}
"""What an arm shows of a user."""

_WITH_SUMMARY: Final = ("d", "e", "f", "g")


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm: its letter, its settings, and in words what it shows.

    Parameters
    ----------
    variant
        The settings that make it; its name is unique, also among arms of one letter.
    recent
        Recent items that it shows; None where it is not told by a number.
    writer
        Name of the writer among `writers`; empty without a summary.
    """

    letter: ArmName
    variant: Variant
    label: str
    recent: int | None = None
    writer: str = ""

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name


def writers(config: Config) -> dict[str, Writer]:
    """Name the writers of a study, that of the claim first: by kind, numbered where there are several.

    Examples
    --------
    >>> from trsr.config import load
    >>> list(writers(load(overrides={"study.writers": [{"kind": "keyphrase", "phrases": 2}]})))
    ['keyphrase', 'keyphrase2']
    """
    named: dict[str, Writer] = {}
    for writer in (config.summary.writer, *config.study.writers):
        kind = writer.kind.rpartition(":")[2]
        same = sum(name.rstrip("0123456789") == kind for name in named)
        named[f"{kind}{same + 1}" if same else kind] = writer
    return named


def arms(config: Config) -> tuple[Arm, ...]:
    """List all arms; of each letter the one that the claim is about comes first.

    Examples
    --------
    >>> [arm.name for arm in arms(Config())]
    ['a-5', 'b', 'c', 'd-5-keyphrase', 'e-keyphrase', 'f-5-keyphrase', 'g-5-keyphrase']
    """
    study, whole = config.study, config.history.max - 1
    paradigm = "recurrent" if config.summary.paradigm == "none" else config.summary.paradigm
    made = []
    for letter in study.arms:
        budget = study.whole if letter == "c" else study.budget
        told = writers(config).items() if letter in _WITH_SUMMARY else [("", None)]
        for writer, settings in told:
            if letter == "g" and isinstance(settings, TableWriter):
                continue  # its text is of the whole history, whatever is asked
            for recent in (None,) if letter in "bce" else study.recent_items:
                overrides: dict[str, Any] = {
                    "prompt.max_tokens": budget,
                    "prompt.recent_items": 0 if letter == "e" else recent or whole,
                    "summary.paradigm": paradigm if settings else "none",
                }
                if settings:
                    overrides["summary.writer"] = settings.model_dump(mode="json")
                name = "-".join(filter(None, (letter, str(recent or ""), writer)))
                by = f" ({writer})" if writer and study.writers else ""
                label = f"{letter}: {SHOWN[letter].format(recent=recent)}{by}"
                made.append(Arm(letter, Variant(name, overrides), label, recent, writer))
    return tuple(made)


def claim(arms: Sequence[Arm]) -> tuple[tuple[Arm, Arm], tuple[Arm, Arm]]:
    """Give the pairs of the claim: summary and recent items against the filled budget, and the placebo."""
    first = {letter: next(arm for arm in arms if arm.letter == letter) for letter in "bdf"}
    return (first["d"], first["b"]), (first["d"], first["f"])


def newest(work: Work, prepared: Artifact[Prepared], count: int) -> Artifact[Prepared]:
    """Leave only the newest items of every history, for a summary that knows what the prompt shows."""
    name = f"newest-{count}"
    path = work.folder.path / f"{name}.parquet"

    def make(config: Config) -> Made:
        shown = pl.col(HISTORY, TIMES).list.tail(count)
        write_parquet(prepared.value.histories.with_columns(shown), path)
        return Made([path])

    return work.step(
        name,
        "",
        make,
        lambda made: replace(prepared.value, histories=read_parquet(made.path)),
        settings=(),
        content=[prepared.digest, count],
    )


def exchange(
    work: Work, prepared: Artifact[Prepared], summaries: Artifact[pl.DataFrame], seed: int
) -> Artifact[pl.DataFrame]:
    """Give every user another one's summary, as `partners` pairs them."""
    name = f"another-{seed}"
    path = work.folder.path / f"{name}.parquet"

    def make(config: Config) -> Made:
        table = prepared.value.histories.join(summaries.value, on=USER, how="left", maintain_order="left")
        texts = table[SUMMARY].fill_null("")
        lengths = table[HISTORY].list.len().to_list()
        partner = partners(table[SPLIT].to_list(), lengths, texts.to_list(), seed)
        given = table.select(summaries.value.columns)[partner].with_columns(table[USER])
        write_parquet(given, path)
        return Made([path])

    return work.step(
        name,
        "",
        make,
        lambda made: read_parquet(made.path),
        settings=(),
        content=[prepared.digest, summaries.digest, seed],
    )


def partners(splits: list[str], lengths: list[int], texts: list[str], seed: int) -> list[int]:
    """Pair users of one part of the split whose histories are about as long; nobody is paired with himself.

    Each is given as the place of another one, and each place once. Users with and without a text are paired
    apart, as far as there are two of them: the placebo must not differ in how much it says. Of equally long
    histories, the seed decides.

    Examples
    --------
    >>> partners(["test"] * 4, [9, 30, 31, 10], ["t"] * 4, seed=0)
    [3, 2, 1, 0]
    """
    drawn = np.random.default_rng(seed).random(len(lengths))
    order = sorted(
        range(len(lengths)), key=lambda user: (splits[user], not texts[user], lengths[user], drawn[user])
    )
    groups: dict[tuple[str, bool], list[int]] = {}
    for user in order:
        groups.setdefault((splits[user], not texts[user]), []).append(user)
    for (split, silent), group in list(groups.items()):
        if len(group) == 1:  # alone among its like: it joins the others of its part
            groups.setdefault((split, not silent), []).extend(groups.pop((split, silent)))
    partner = list(range(len(lengths)))
    for group in groups.values():
        for start in range(0, len(group), 2):
            pair = group[start : start + 2]
            if len(pair) == 1 and start:  # an odd one goes round with the last pair
                pair = group[start - 2 :]
            for place, user in enumerate(pair):
                partner[user] = pair[(place + 1) % len(pair)]
    return partner
