"""Telling a user's newest items from the ones before, and what lasts from what is a burst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trsr.summarize.keyphrase.interests import Interests, Weights
from trsr.summarize.keyphrase.phrases import Feature

_DUST: Final = 0.01
_BURST: Final = 1.5


@dataclass(frozen=True, slots=True)
class Periods:
    """One user's interests, taken apart in time.

    Parameters
    ----------
    recent
        The last block; when it is shorter than the one before it, filled up from that one in proportion.
    past
        All that came before, faded; no items when there was nothing before.
    lasting
        Weight of what lasts. A burst among the newest items counts as much as its
        past promised and half as much again; without a past everything counts.
    """

    recent: Weights
    past: Weights
    lasting: Mapping[Feature, float]


def divide(interests: Interests, decay: float) -> Periods:
    """Take interests apart.

    Parameters
    ----------
    interests
        What all blocks show.
    decay
        Weight that an interest kept when one more block had passed.
    """
    newest, previous = interests.newest, interests.previous
    filled = max(0.0, 1.0 - newest.items / previous.items) if previous.items > 0 else 0.0
    recent = _sum(newest, previous, filled)
    faded = _sum(newest, previous, filled * decay)
    past = Weights(
        max(interests.all.items - faded.items, 0.0),
        {
            feature: left
            for feature, weight in interests.all.of.items()
            if (left := weight - faded.of.get(feature, 0.0)) > _DUST
        },
    )
    if past.items <= _DUST:
        return Periods(recent, Weights(0.0, {}), interests.all.of)
    return Periods(recent, past, _lasting(interests.all, past))


def _sum(one: Weights, other: Weights, share: float) -> Weights:
    """Add a share of the other weights."""
    if share == 0:
        return one
    sums = dict(one.of)
    for feature, weight in other.of.items():
        sums[feature] = sums.get(feature, 0.0) + share * weight
    return Weights(one.items + share * other.items, sums)


def _lasting(whole: Weights, past: Weights) -> dict[Feature, float]:
    promised = _BURST * whole.items / past.items
    return {feature: min(whole.of[feature], promised * weight) for feature, weight in past.of.items()}
