"""A generated small shop, for trying everything out without any data. It is synthetic, and made to be learnt.

What is planted
---------------
Every item has a category and a style; a part of the items has no style (neutral).
Every user has a *taste*, one style, and an *intent*, one category.

- The **target** has the taste's style and the intent's category, except for one
  user in ten, whose target is any item.
- The **5 newest items** before it show the intent: with chance 0.9 an item of the
  intent's category (two thirds of these neutral in style, the rest of any
  style), otherwise any item.
- All **older items** show the taste: with chance 0.85 an item of the taste's style
  from any category, otherwise any item.

So recent items alone leave the items of one category, a summary of the older
ones alone leaves the items of one style, and only both together point to the
target. Within these rules items differ in popularity: the chance of the k-th
item of the catalogue's hidden order falls as 1 / (k + a tenth of the catalogue).
Figures on this shop say that a system works; they say nothing about real users.

The same settings give the same shop on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.data import DemoData
from trsr.data.dataset import Dataset, Reader
from trsr.data.readers.demo_words import CATEGORIES, NEUTRAL, STYLES, Category, Style
from trsr.records import ITEM, ITEMS, TIMES, USER, Finding

RECENT: Final = 5
"""Newest items before the target, which show the intent."""

_ITEMS_A_CELL: Final = 3
_NEUTRAL_SHARE: Final = 0.15
_TARGET_FITS: Final = 0.9
_RECENT_FITS: Final = 0.9
_RECENT_NEUTRAL: Final = 2 / 3
_OLD_FITS: Final = 0.85
_OFF_RULE: Final = 1e-12
_USERS_A_CHUNK: Final = 1024
_START_S: Final = 1_704_067_200
_HOUR_S: Final = 3600
_LENGTHS: Final = ((0.04, 6, 10), (0.90, 12, 26), (0.06, 27, 34))

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shop:
    """The hidden truth about the items, for tests and for whoever wants to know what could be learnt.

    Per item, each ``(n_items,)``: the place of its style in `STYLES` (-1 for neutral), the place of
    its category in `CATEGORIES`, and its popularity.
    """

    items: pl.DataFrame
    style: _Ints
    category: _Ints
    weight: _Floats


def generate(source: DemoData) -> Dataset:
    """Make the shop and its users.

    Items have title, brand, category, price and description; histories have times.

    Examples
    --------
    >>> shop = generate(DemoData(users=20, items=100))
    >>> shop.fields
    ('title', 'brand', 'category', 'price', 'description')
    >>> shop.histories.height
    20
    """
    rng = np.random.default_rng(source.seed)
    shop = open_shop(source.items, rng)
    lengths = _draw_lengths(source.users, rng)
    chosen = _choose_items(shop, lengths, rng)
    times = _draw_times(lengths, rng)
    owner = np.repeat(np.arange(source.users), lengths)
    if not source.planted:
        chosen = _shuffle_among_users(chosen, owner, rng)
    flat = pl.DataFrame(
        {
            USER: [f"U{number:05d}" for number in owner + 1],
            ITEMS: shop.items[ITEM].gather(chosen),
            TIMES: times,
        }
    )
    return Dataset(shop.items, flat.group_by(USER, maintain_order=True).agg(ITEMS, TIMES))


def open_shop(n_items: int, rng: np.random.Generator) -> Shop:
    """Make the items and what is true of them."""
    styled = n_items - int(n_items * _NEUTRAL_SHARE)
    n_styles = min(len(STYLES), int((styled / _ITEMS_A_CELL) ** 0.5))
    n_categories = min(len(CATEGORIES), styled // (_ITEMS_A_CELL * n_styles))
    cell = np.arange(styled) % (n_styles * n_categories)
    neutral = np.arange(n_items - styled) % n_categories
    order = rng.permutation(n_items)
    style = np.concatenate([cell % n_styles, np.full(len(neutral), -1)])[order]
    category = np.concatenate([cell // n_styles, neutral])[order]
    weight = 1.0 / (rng.permutation(n_items).astype(np.float64) + 0.1 * n_items)
    return Shop(_write_items(style, category, rng), style, category, weight)


def _write_items(style: _Ints, category: _Ints, rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, str]] = [{} for _ in style]
    for place in sorted(set(zip(style.tolist(), category.tolist(), strict=True))):
        look = NEUTRAL if place[0] < 0 else STYLES[place[0]]
        department = CATEGORIES[place[1]]
        members = np.flatnonzero((style == place[0]) & (category == place[1]))
        for member, picks in zip(members, _distinct_picks(look, department, len(members), rng), strict=True):
            price = department.price * (0.6 + 0.8 * rng.random())
            rows[member] = {ITEM: f"P{member + 1:04d}"} | _write_item(look, department, picks, price)
    return pl.DataFrame(rows)


def _distinct_picks(look: Style, department: Category, count: int, rng: np.random.Generator) -> _Ints:
    """Draw the words of `count` titles of one look and department, all different, ``(count, 7)``."""
    words = (look.adjectives, department.nouns, department.features, department.variants, look.brands)
    sizes = [len(choices) for choices in words]
    number = rng.choice(int(np.prod(sizes)), size=count, replace=count > int(np.prod(sizes)))
    picks = np.stack(np.unravel_index(number, sizes), axis=1)
    endings = rng.integers(0, [len(look.openings), len(department.uses)], size=(count, 2))
    return np.concatenate([picks, endings], axis=1)


def _write_item(look: Style, department: Category, picks: _Ints, price: float) -> dict[str, str]:
    adjective, noun, feature, variant, brand, opening, use = picks.tolist()
    kind = department.nouns[noun]
    start = look.openings[opening].format(noun=kind.lower())
    return {
        "title": f"{look.brands[brand]} {look.adjectives[adjective]} {kind}"
        f" with {department.features[feature]}, {department.variants[variant]}",
        "brand": look.brands[brand],
        "category": department.name,
        "price": f"${int(price)}.{'99' if price % 1 < 0.5 else '50'}",
        "description": f"{start}, and it {department.uses[use]}.",
    }


def _draw_lengths(n_users: int, rng: np.random.Generator) -> _Ints:
    """Draw lengths with the target: most inside the default window of 11 to 26, some below and above."""
    shares, lows, highs = (np.array(column) for column in zip(*_LENGTHS, strict=True))
    kind = np.searchsorted(np.cumsum(shares)[:-1], rng.random(n_users), side="right")
    return rng.integers(lows[kind], highs[kind] + 1)


def _choose_items(shop: Shop, lengths: _Ints, rng: np.random.Generator) -> _Ints:
    """Draw every user's items, oldest first, target last, one user after the other, ``(sum(lengths),)``."""
    taste = rng.integers(0, shop.style.max() + 1, size=len(lengths))
    intent = rng.integers(0, shop.category.max() + 1, size=len(lengths))
    parts = []
    for start in range(0, len(lengths), _USERS_A_CHUNK):
        users = slice(start, start + _USERS_A_CHUNK)
        drawn = _choose_for(shop, taste[users, None], intent[users, None], int(lengths.max()), rng)
        parts += [back[:length][::-1] for back, length in zip(drawn, lengths[users], strict=True)]
    return np.concatenate(parts)


def _choose_for(shop: Shop, taste: _Ints, intent: _Ints, longest: int, rng: np.random.Generator) -> _Ints:
    """Draw the items of some users from the target backwards, none twice, ``(n_users, longest)``."""
    n_users = len(taste)
    in_taste, in_intent, neutral = shop.style == taste, shop.category == intent, shop.style < 0
    left = np.tile(shop.weight, (n_users, 1))
    drawn = np.empty((n_users, longest), dtype=np.int64)
    for back in range(longest):
        if back == 0:
            fits, share = in_taste & in_intent, _TARGET_FITS
        elif back <= RECENT:
            plain = rng.random((n_users, 1)) < _RECENT_NEUTRAL
            fits, share = in_intent & (neutral | ~plain), _RECENT_FITS
        else:
            fits, share = in_taste, _OLD_FITS
        fits = fits | (rng.random((n_users, 1)) >= share)
        # The first of exponential clocks rings in proportion to the weights; a tiny weight
        # off the rule keeps a draw possible when everything that fits is taken.
        clocks = rng.standard_exponential(left.shape) / np.where(fits, left, left * _OFF_RULE)
        drawn[:, back] = np.argmin(clocks, axis=1)
        left[np.arange(n_users), drawn[:, back]] = _OFF_RULE**2
    return drawn


def _draw_times(lengths: _Ints, rng: np.random.Generator) -> _Ints:
    """Draw unix seconds: days between older interactions, hours between the newest ones."""
    ends = np.cumsum(lengths)
    gaps = rng.integers(24 * _HOUR_S, 12 * 24 * _HOUR_S, size=ends[-1])
    back = np.repeat(ends, lengths) - np.arange(ends[-1]) - 1
    gaps = np.where(back < RECENT, gaps // 24, gaps)
    starts = ends - lengths
    gaps[starts] = _START_S + rng.integers(0, 180 * 24 * _HOUR_S, size=len(lengths))
    running: _Ints = np.cumsum(gaps)
    before = np.concatenate([[0], running[ends[:-1] - 1]])
    times: _Ints = running - np.repeat(before, lengths)
    return times


def _shuffle_among_users(chosen: _Ints, owner: _Ints, rng: np.random.Generator) -> _Ints:
    """Deal all items out anew, each as often as before, none twice to one user."""
    dealt = rng.permutation(chosen)
    while (twice := _repeats(dealt, owner)).any():
        swapped = np.flatnonzero(twice)
        others = rng.choice(len(dealt), size=min(len(dealt), len(swapped) + 1), replace=False)
        mixed = np.union1d(swapped, others)
        dealt[mixed] = dealt[rng.permutation(mixed)]
    return dealt


def _repeats(items: _Ints, owner: _Ints) -> NDArray[np.bool_]:
    """Mark every place whose item its owner holds at an earlier place too."""
    pair = owner * (items.max() + 1) + items
    order = np.argsort(pair, kind="stable")
    repeated = np.zeros(len(items), dtype=bool)
    repeated[order[1:]] = pair[order[1:]] == pair[order[:-1]]
    return repeated


class Demo(Reader):
    """The generated shop; see the module's text."""

    Settings = DemoData

    def files(self) -> tuple[Path, ...]:
        """List none: nothing is read."""
        return ()

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Generate it; its seed is its own."""
        return generate(self.settings), ()
