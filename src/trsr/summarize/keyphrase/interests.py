"""What a user has been seen to care about, as decayed weights that can be joined, and what has changed.

`Interests` is the state of the keyphrase writer. Joining is associative: weights
of the older part fade by ``decay`` for every block of the newer part, so a history
may be read block by block or in pieces, and the same interests come out (up to
the features dropped to keep the state small).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trsr.errors import WriterError
from trsr.summarize.keyphrase.vocabulary import Feature

_KEPT: Final = 80
_KEPT_RECENT: Final = 56
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Weights:
    """How much of each feature some items have; the number of items is decayed like the weights."""

    items: float
    of: Mapping[Feature, float]


@dataclass(frozen=True, slots=True)
class Interests:
    """What several consecutive blocks show: `all` of them together, older ones faded.

    Changes of taste are read from `newest` and `previous`, the last two blocks, neither faded. `counts` is
    the number of items that have a feature at full weight, never faded: it tells a habit from a single
    purchase, and both from what descriptions say in passing.
    """

    blocks: int
    all: Weights
    newest: Weights
    previous: Weights
    counts: Mapping[Feature, int]


def observe(features: Iterable[Mapping[Feature, float]]) -> Interests:
    """Return the interests of one block, given the features of its items."""
    listed = list(features)
    sums: dict[Feature, float] = {}
    counts: dict[Feature, int] = {}
    for weights in listed:
        for feature, weight in weights.items():
            sums[feature] = sums.get(feature, 0.0) + weight
            if weight >= 1.0:
                counts[feature] = counts.get(feature, 0) + 1
    seen = Weights(float(len(listed)), sums)
    return Interests(1, seen, seen, Weights(0.0, {}), counts)


def join(older: Interests, newer: Interests, decay: float) -> Interests:
    """Join two consecutive parts of a history; the older one fades.

    Examples
    --------
    >>> lamps = observe([{("", "lamp"): 1.0}, {("", "lamp"): 1.0}])
    >>> drills = observe([{("", "drill"): 1.0}])
    >>> dict(join(lamps, drills, decay=0.5).all.of)
    {('', 'lamp'): 1.0, ('', 'drill'): 1.0}
    """
    kept = decay**newer.blocks
    sums = {feature: weight * kept for feature, weight in older.all.of.items()}
    for feature, weight in newer.all.of.items():
        sums[feature] = sums.get(feature, 0.0) + weight
    counts = dict(older.counts)
    for feature, count in newer.counts.items():
        counts[feature] = counts.get(feature, 0) + count
    return Interests(
        blocks=older.blocks + newer.blocks,
        all=Weights(older.all.items * kept + newer.all.items, sums),
        newest=newer.newest,
        previous=newer.previous if newer.blocks > 1 else older.newest,
        counts=counts,
    )


def trim(interests: Interests, standing: Callable[[Feature], float]) -> Interests:
    """Drop the weakest features, so that the state stays small however long a history grows.

    `standing` is how much one mention of a feature says; ties go by the feature's name.
    """
    whole = _strongest(interests.all, standing, _KEPT)
    return Interests(
        blocks=interests.blocks,
        all=whole,
        newest=_strongest(interests.newest, standing, _KEPT_RECENT),
        previous=_strongest(interests.previous, standing, _KEPT_RECENT),
        counts={feature: count for feature, count in interests.counts.items() if feature in whole.of},
    )


def dump(interests: Interests) -> str:
    """Write interests as JSON; numbers are rounded so that the text is the same everywhere."""
    value = {
        "blocks": interests.blocks,
        "all": _listed(interests.all),
        "newest": _listed(interests.newest),
        "previous": _listed(interests.previous),
        "counts": [[*feature, count] for feature, count in sorted(interests.counts.items())],
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def load(text: str) -> Interests:
    """Read what `dump` wrote.

    Raises WriterError when the text is something else, such as the state of another writer.
    """
    try:
        value = json.loads(text)
        return Interests(
            blocks=int(value["blocks"]),
            all=_weights(value["all"]),
            newest=_weights(value["newest"]),
            previous=_weights(value["previous"]),
            counts={(str(field), str(key)): int(count) for field, key, count in value["counts"]},
        )
    except (ValueError, TypeError, KeyError) as error:
        message = (
            f"summary state is not one of the keyphrase writer, got {text[:60]!r}; "
            "write this user's summary anew with `writer: keyphrase`"
        )
        raise WriterError(message) from error


def _strongest(weights: Weights, standing: Callable[[Feature], float], kept: int) -> Weights:
    if len(weights.of) <= kept:
        return weights
    ranked = sorted(weights.of, key=lambda feature: (-weights.of[feature] * standing(feature), feature))
    return Weights(weights.items, {feature: weights.of[feature] for feature in ranked[:kept]})


def _listed(weights: Weights) -> dict[str, Any]:
    listed = [[*feature, round(weight, _DIGITS)] for feature, weight in sorted(weights.of.items())]
    return {"items": round(weights.items, _DIGITS), "of": listed}


def _weights(value: Mapping[str, Any]) -> Weights:
    listed = {(str(field), str(key)): float(weight) for field, key, weight in value["of"]}
    return Weights(float(value["items"]), listed)


_DUST: Final = 0.01
_BURST: Final = 1.5


@dataclass(frozen=True, slots=True)
class Periods:
    """One user's interests, taken apart in time.

    `recent` is the last block; when it is shorter than the one before it, filled up from that one in
    proportion. `past` is all that came before, faded. `lasting` is the weight of what lasts: a burst among
    the newest items counts as much as its past promised and half as much again; without a past all counts.
    """

    recent: Weights
    past: Weights
    lasting: Mapping[Feature, float]


def divide(interests: Interests, decay: float) -> Periods:
    """Take interests apart; `decay` is the weight that an interest kept when one more block had passed."""
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
