"""Shared hits and weights in the form in which the page shows them, with a sentence each."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trsr.report.comparison.insights import Agreement, Fusion
from trsr.report.comparison.roster import Roster
from trsr.report.comparison.standings import Kind
from trsr.report.wording import counted, listed, percent

_CONDITIONS = {"cold item": "items that training never saw", "drawn by it": "candidates drawn by popularity"}
_NAMED = 2
_SLIGHT = 0.1
"""Below this share of the largest weight an input has hardly a say."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A share as text, and how dark it is: 0 to 1."""

    text: str
    heat: float
    is_own: bool


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A system and its cells."""

    label: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Shared hits as a table of colours and numbers.

    Parameters
    ----------
    columns
        Labels across.
    rows
        One a system.
    sentence
        Which systems find what others miss, in words.
    """

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class WeightBar:
    """One input of the fused ranker.

    Parameters
    ----------
    label
        How the page calls the input.
    value, low, high
        Its weight and the ends of the 95% interval.
    share
        Per cent of the largest weight, by size.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    share: float


@dataclass(frozen=True, slots=True)
class WeightList:
    """All inputs by falling size, and a sentence about them."""

    weights: tuple[WeightBar, ...]
    intercept: float | None
    sentence: str


def heat_map(found: Agreement, roster: Roster) -> HeatMap:
    """Give the matrix its colours, and name the pair of systems that find most together.

    Examples
    --------
    >>> made = heat_map(Agreement("uniform", 3, 10, ("a", "b"), ((0.5, 0.2), (0.2, 0.4))), Roster(()))
    >>> print(made.sentence)
    The two systems that find most together are a and b: one or both have the target among the first 3
    for 70% of users, the better of them alone for 50%.
    """
    top = max((share for row in found.shared for share in row), default=0.0)
    rows = tuple(
        HeatRow(
            roster.label(name),
            tuple(
                HeatCell(f"{100 * share:.1f}", share / top if top else 0.0, across == down)
                for across, share in enumerate(found.shared[down])
            ),
        )
        for down, name in enumerate(found.systems)
    )
    return HeatMap(tuple(roster.label(name) for name in found.systems), rows, _complement(found, roster))


def _complement(found: Agreement, roster: Roster) -> str:
    """Say which two systems find most; a fused ranker is left out, as it is a join already."""
    own = {
        place: found.shared[place][place]
        for place, name in enumerate(found.systems)
        if roster.kind(name) is not Kind.FUSED
    }
    pairs = [(own[a] + own[b] - found.shared[a][b], -a, -b) for a in own for b in own if a < b]
    if not pairs:
        return "With one system there is nothing to share."
    union, a, b = max(pairs)
    names = listed([roster.inside(found.systems[-place]) for place in (a, b)])
    return (
        f"The two systems that find most together are {names}: one or both have the target among the first "
        f"{found.k} for {percent(union)} of users, the better of them alone for "
        f"{percent(max(own[-a], own[-b]))}."
    )


def weight_list(found: Fusion, roster: Roster) -> WeightList:
    """Order the inputs by the size of their weights, and say which of them decide.

    Examples
    --------
    >>> from trsr.report.comparison.insights import FusedWeight
    >>> weights = (FusedWeight("tfidf", 0.01), FusedWeight("sasrec", 1.2), FusedWeight("popularity", -0.4))
    >>> print(weight_list(Fusion("fused", weights, "validation users"), Roster(())).sentence)
    Most weight goes to SASRec (+1.200). Popularity counts against a candidate. TF-IDF similarity has
    hardly a say. Fitted on: validation users.
    """
    ordered = sorted(found.weights, key=lambda weight: (-abs(weight.weight), weight.name))
    top = abs(ordered[0].weight) if ordered else 0.0
    bars = tuple(
        WeightBar(
            _input_label(one.name, roster),
            one.weight,
            one.low,
            one.high,
            100 * abs(one.weight) / top if top else 0.0,
        )
        for one in ordered
    )
    return WeightList(bars, found.intercept, " ".join(_weights_in_words(bars, found.fitted_on)))


def _input_label(name: str, roster: Roster) -> str:
    """Name an input; ``tfidf, cold item`` is what TF-IDF adds where training saw nothing."""
    system, comma, condition = name.partition(", ")
    if not comma:
        return roster.label(name)
    return f"{roster.label(system)}, in addition for {_CONDITIONS.get(condition, condition)}"


def _weights_in_words(bars: tuple[WeightBar, ...], fitted_on: str) -> list[str]:
    heavy = [bar for bar in bars if bar.share >= 100 * _SLIGHT and not math.isnan(bar.value)]
    slight = [bar.label for bar in bars if bar.share < 100 * _SLIGHT]
    helpful = [f"{bar.label} ({bar.value:+.3f})" for bar in heavy if bar.value > 0]
    against = [bar.label for bar in heavy if bar.value < 0]
    sentences = []
    if helpful:
        then = f", then to {listed(helpful[1:])}" if len(helpful) > 1 else ""
        sentences.append(f"Most weight goes to {helpful[0]}{then}.")
    if against:
        verb = "counts" if len(against) == 1 else "count"
        sentences.append(f"{listed(against)} {verb} against a candidate.")
    if slight:
        named = listed(slight) if len(slight) <= _NAMED else counted(len(slight), "other input")
        sentences.append(f"{named} {'has' if len(slight) == 1 else 'have'} hardly a say.")
    if fitted_on:
        sentences.append(f"Fitted on: {fitted_on}.")
    return sentences
