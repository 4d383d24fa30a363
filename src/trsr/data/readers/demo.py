"""The demo: a generated shop with planted tastes and needs, or without; and its words.

A *look* runs through the shop, but every sort of goods has words of its own for it: who has walnut
furniture takes copper pans and mustard curtains. Departments come in pairs that go with each other: a desk
wants a chair, not another desk. That such words and departments belong together can only be learnt from
other users. With ``planted: false`` the same items are dealt out among the users anew.
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
from trsr.data.readers.demo_images import draw_images
from trsr.records import ITEM, ITEMS, TIMES, USER, Finding


@dataclass(frozen=True, slots=True)
class Look:
    """A look that runs through all departments; its name stands in no text.

    By sort of goods, furniture, ware and cloth: the brand that makes this look alone, and the words for it,
    of which a title has one and a description another.
    """

    name: str
    brands: tuple[str, str, str]
    words: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Department:
    """A department of the shop, named as the category field shows it.

    A title is of one of the nouns, adds one of the features after "with", and ends with one of the variants;
    a description ends with one of the uses, after "and it". Prices lie about `price` dollars.
    """

    name: str
    nouns: tuple[str, ...]
    features: tuple[str, ...]
    variants: tuple[str, ...]
    uses: tuple[str, ...]
    price: float


LOOKS: Final = (
    Look(
        "mid-century",
        ("Tarnwick", "Oskelby", "Lindorva"),
        (
            ("Walnut", "Teak", "Rosewood"),
            ("Copper", "Amber Glass", "Terrazzo"),
            ("Mustard", "Boucle", "Tweed"),
        ),
    ),
    Look(
        "nordic",
        ("Svarl", "Plenoma", "Hvidana"),
        (
            ("Birch", "Pale Ash", "Soaped Pine"),
            ("Porcelain", "Eggshell", "Bisque"),
            ("Linen", "Oatmeal", "Felt"),
        ),
    ),
    Look(
        "industrial",
        ("Kragmoor", "Boltrane", "Stannock"),
        (
            ("Riveted", "Pipework", "I-Beam"),
            ("Cast Iron", "Gunmetal", "Zinc"),
            ("Waxed Canvas", "Denim", "Ripstop"),
        ),
    ),
    Look(
        "farmhouse",
        ("Barnlowe", "Hearthwend", "Quiltrey"),
        (
            ("Weathered Oak", "Whitewashed", "Plank"),
            ("Stoneware", "Enamel", "Creamware"),
            ("Gingham", "Patchwork", "Ticking"),
        ),
    ),
    Look(
        "coastal",
        ("Pelstrand", "Aquorra", "Salthaven"),
        (
            ("Driftwood", "Rope-Bound", "Shiplap"),
            ("Seafoam", "Aqua", "Coral"),
            ("Sailcloth", "Navy Stripe", "Seersucker"),
        ),
    ),
    Look(
        "botanical",
        ("Mossarie", "Petalune", "Fernova"),
        (
            ("Rattan", "Bamboo", "Wicker"),
            ("Majolica", "Leaf Green", "Celadon"),
            ("Wildflower", "Toile", "Chintz"),
        ),
    ),
    Look(
        "art deco",
        ("Vellamour", "Gildane", "Sorabelle"),
        (("Lacquered", "Ebony", "Burl"), ("Crystal", "Gilded", "Opaline"), ("Velvet", "Satin", "Brocade")),
    ),
    Look(
        "retro",
        ("Jukarra", "Popsidel", "Dinerette"),
        (
            ("Formica", "Chrome", "Vinyl"),
            ("Melamine", "Bakelite", "Jadeite"),
            ("Polka Dot", "Corduroy", "Terrycloth"),
        ),
    ),
)

NEUTRAL: Final = Look(
    "neutral",
    ("Dailor", "Evrio", "Homestam"),
    (("Everyday", "Standard", "All-Purpose"),) * 3,
)

OPENINGS: Final = (
    "A {noun} in {word}",
    "{word} sets the tone of this {noun}",
    "This {noun} shows {word} at its best",
)

DEPARTMENTS: Final = (
    Department(
        "Desks",
        ("Writing Table", "Secretary", "Standing Desk", "Corner Desk"),
        ("Cable Tray", "Two Drawers", "Keyboard Shelf", "Folding Top"),
        ("120 cm", "140 cm", "160 cm"),
        ("gives paperwork a place", "holds two monitors", "fits under a window"),
        189.0,
    ),
    Department(
        "Seating",
        ("Armchair", "Swivel Chair", "Stool", "Bench"),
        ("Footrest", "Lumbar Cushion", "Padded Seat", "Tilt Lock"),
        ("Low", "High", "Wide"),
        ("invites long sitting", "supports the back", "rolls without a sound"),
        139.0,
    ),
    Department(
        "Coffee Makers",
        ("Espresso Pot", "French Press", "Drip Brewer", "Percolator"),
        ("Paper Filter", "Heat Plate", "Pour Spout", "Grind Gauge"),
        ("2 cups", "4 cups", "8 cups"),
        ("brews in four minutes", "wakes a whole family", "comes apart for rinsing"),
        64.0,
    ),
    Department(
        "Drinkware",
        ("Mug", "Tumbler", "Saucer Pair", "Flask"),
        ("Silicone Base", "Leakproof Lid", "Thick Rim", "Double Wall"),
        ("250 ml", "350 ml", "500 ml"),
        ("stays hot for hours", "stacks neatly", "feels good in the hand"),
        24.0,
    ),
    Department(
        "Bedding",
        ("Duvet Cover", "Pillowcase", "Quilt", "Bedspread"),
        ("Hidden Zip", "Brushed Finish", "Piped Edge", "Button Closure"),
        ("Single", "Queen", "King"),
        ("keeps sleepers warm", "breathes on summer nights", "softens with every wash"),
        52.0,
    ),
    Department(
        "Curtains",
        ("Blackout Drape", "Sheer Panel", "Roman Blind", "Valance"),
        ("Eyelets", "Tieback", "Pleated Heading", "Weighted Hem"),
        ("180 cm drop", "220 cm drop", "260 cm drop"),
        ("shuts out the street", "filters the morning sun", "hangs without a crease"),
        46.0,
    ),
)
"""Each goes with its neighbour, whose place differs in the last bit; two make a sort of goods."""


RECENT: Final = 5
"""Newest items before the target, which show the need."""

NEW_SHARE: Final = 0.125
"""Share of the items that are new arrivals: taken as targets alone, by the users who come last."""

LATE_SHARE: Final = 0.2
"""Share of the users, by the time of their target, who are offered new arrivals."""

_ITEMS_A_CELL: Final = 3
_NEUTRAL_SHARE: Final = 0.15
_TARGET_FITS: Final = 0.9
_TARGET_NEW: Final = 0.3
_RECENT_FITS: Final = 0.9
_RECENT_NEUTRAL: Final = 2 / 3
_OLD_FITS: Final = 0.85
_FURNISHED: Final = 0.5
_TURNED: Final = 0.3
_OFF_RULE: Final = 1e-12
_USERS_A_CHUNK: Final = 1024
_START_S: Final = 1_704_067_200
_HOUR_S: Final = 3600
_LENGTHS: Final = ((0.04, 6, 10), (0.90, 12, 26), (0.06, 27, 34))

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shop:
    """The hidden truth about the items, for tests and for whoever wants to know what could be learnt.

    Per item, each ``(n_items,)``: the place of its look in `LOOKS` (-1 for neutral), the place of
    its department in `DEPARTMENTS`, its popularity, and whether it is a new arrival.
    """

    items: pl.DataFrame
    look: _Ints
    department: _Ints
    weight: _Floats
    new: _Flags


@dataclass(frozen=True, slots=True)
class Customers:
    """The hidden truth about the users, each ``(n_users,)``.

    `look` is what decides, `earlier` what the older half of the old items shows: another look where a taste
    has turned. `need` is the department of the recent items; the target is of the one that goes with it.
    `furnished` users have had its sort of goods before, and `late` ones are offered new arrivals.
    """

    look: _Ints
    earlier: _Ints
    need: _Ints
    furnished: _Flags
    late: _Flags
    length: _Ints

    def __getitem__(self, users: slice) -> Customers:
        """Take some of them."""
        return Customers(*(getattr(self, name)[users] for name in self.__slots__))


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
    times = _draw_times(lengths, rng)
    items = (
        shop.items.with_columns(draw_images(shop.look, shop.department, source.seed))
        if source.images
        else shop.items
    )
    customers = _draw_customers(shop, lengths, times[np.cumsum(lengths) - 1], rng)
    chosen = _choose_items(shop, customers, rng)
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
    return Dataset(items, flat.group_by(USER, maintain_order=True).agg(ITEMS, TIMES))


def open_shop(n_items: int, rng: np.random.Generator) -> Shop:
    """Make the items and what is true of them."""
    styled = n_items - int(n_items * _NEUTRAL_SHARE)
    n_looks = min(len(LOOKS), styled // (_ITEMS_A_CELL * len(DEPARTMENTS)))
    cell = np.arange(styled) % (n_looks * len(DEPARTMENTS))
    neutral = np.arange(n_items - styled) % len(DEPARTMENTS)
    order = rng.permutation(n_items)
    look = np.concatenate([cell % n_looks, np.full(len(neutral), -1)])[order]
    department = np.concatenate([cell // n_looks, neutral])[order]
    weight = 1.0 / (rng.permutation(n_items).astype(np.float64) + 0.1 * n_items)
    new = (rng.random(n_items) < NEW_SHARE) & (look >= 0)
    return Shop(_write_items(look, department, rng), look, department, weight, new)


def _write_items(looks: _Ints, departments: _Ints, rng: np.random.Generator) -> pl.DataFrame:
    rows: list[dict[str, str]] = [{} for _ in looks]
    for place in sorted(set(zip(looks.tolist(), departments.tolist(), strict=True))):
        look, department = NEUTRAL if place[0] < 0 else LOOKS[place[0]], DEPARTMENTS[place[1]]
        brand, words = look.brands[place[1] // 2], look.words[place[1] // 2]
        members = np.flatnonzero((looks == place[0]) & (departments == place[1]))
        for member, picks in zip(members, _distinct_picks(words, department, len(members), rng), strict=True):
            price = department.price * (0.6 + 0.8 * rng.random())
            rows[member] = {ITEM: f"P{member + 1:04d}"} | _write_item(brand, words, department, picks, price)
    return pl.DataFrame(rows)


def _distinct_picks(words: tuple[str, ...], of: Department, count: int, rng: np.random.Generator) -> _Ints:
    """Draw what the titles and descriptions of one look and department say, all titles different."""
    sizes = [len(choices) for choices in (words, of.nouns, of.features, of.variants)]
    number = rng.choice(int(np.prod(sizes)), size=count, replace=count > int(np.prod(sizes)))
    picks = np.stack(np.unravel_index(number, sizes), axis=1)
    endings = rng.integers(0, [len(words), len(OPENINGS), len(of.uses)], size=(count, 3))
    return np.concatenate([picks, endings], axis=1)


def _write_item(
    brand: str, words: tuple[str, ...], of: Department, picks: _Ints, price: float
) -> dict[str, str]:
    word, noun, feature, variant, other, opening, use = picks.tolist()
    kind = of.nouns[noun]
    start = OPENINGS[opening].format(noun=kind.lower(), word=words[other].lower())
    return {
        "title": f"{brand} {words[word]} {kind} with {of.features[feature]}, {of.variants[variant]}",
        "brand": brand,
        "category": of.name,
        "price": f"${int(price)}.{'99' if price % 1 < 0.5 else '50'}",
        "description": f"{start[0].upper()}{start[1:]}, and it {of.uses[use]}.",
    }


def _draw_lengths(n_users: int, rng: np.random.Generator) -> _Ints:
    """Draw lengths with the target: most inside the default window of 11 to 26, some below and above."""
    shares, lows, highs = (np.array(column) for column in zip(*_LENGTHS, strict=True))
    kind = np.searchsorted(np.cumsum(shares)[:-1], rng.random(n_users), side="right")
    return rng.integers(lows[kind], highs[kind] + 1)


def _draw_customers(shop: Shop, lengths: _Ints, ends: _Ints, rng: np.random.Generator) -> Customers:
    n_users, n_looks = len(lengths), shop.look.max() + 1
    look = rng.integers(0, n_looks, size=n_users)
    turned = rng.random(n_users) < _TURNED
    return Customers(
        look=look,
        earlier=np.where(turned, rng.integers(0, n_looks, size=n_users), look),
        need=rng.integers(0, len(DEPARTMENTS), size=n_users),
        furnished=rng.random(n_users) < _FURNISHED,
        late=ends > np.quantile(ends, 1 - LATE_SHARE),
        length=lengths,
    )


def _choose_items(shop: Shop, customers: Customers, rng: np.random.Generator) -> _Ints:
    """Draw every user's items, oldest first, target last, one user after the other, ``(sum(lengths),)``."""
    parts = []
    for start in range(0, len(customers.length), _USERS_A_CHUNK):
        some = customers[start : start + _USERS_A_CHUNK]
        drawn = _choose_for(shop, some, rng)
        parts += [back[:length][::-1] for back, length in zip(drawn, some.length, strict=True)]
    return np.concatenate(parts)


def _choose_for(shop: Shop, users: Customers, rng: np.random.Generator) -> _Ints:
    """Draw the items of some users from the target backwards, none twice, ``(n_users, longest)``."""
    n_users, longest = len(users.length), int(users.length.max())
    look, earlier, need = users.look[:, None], users.earlier[:, None], users.need[:, None]
    had = users.furnished[:, None] | (shop.department // 2 != need // 2)
    turn = RECENT + (users.length[:, None] - RECENT) // 2
    left = np.tile(np.where(shop.new, 0.0, shop.weight), (n_users, 1))
    drawn = np.empty((n_users, longest), dtype=np.int64)
    for back in range(longest):
        if back == 0:
            fits = (shop.look == look) & (shop.department == need ^ 1)
            share, asks = _TARGET_FITS, rng.random((n_users, 1)) < _TARGET_NEW
            # Where the cell has no new arrival, it is one of another.
            offered = asks & users.late[:, None] & shop.new.any()
            weights = np.where(offered, np.where(shop.new, shop.weight, 0.0), left)
        elif back <= RECENT:
            plain = rng.random((n_users, 1)) < _RECENT_NEUTRAL
            fits, share, weights = (shop.department == need) & ((shop.look < 0) | ~plain), _RECENT_FITS, left
        else:
            fits, share, weights = had & (shop.look == np.where(back < turn, look, earlier)), _OLD_FITS, left
        fits = fits | (rng.random((n_users, 1)) >= share)
        # The first of exponential clocks rings in proportion to the weights; a tiny weight
        # off the rule keeps a draw possible when everything that fits is taken.
        with np.errstate(divide="ignore"):
            clocks = rng.standard_exponential(left.shape) / np.where(fits, weights, weights * _OFF_RULE)
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
