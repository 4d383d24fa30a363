"""The demo: a generated shop, with planted tastes and intents, or without; and its words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.data import DemoData
from trsr.data.dataset import Dataset, Reader
from trsr.records import ITEM, ITEMS, TIMES, USER, Finding


@dataclass(frozen=True, slots=True)
class Style:
    """A look that runs through all categories.

    Parameters
    ----------
    brands
        Brands that make this look alone.
    adjectives
        Words that stand before the noun of a title.
    openings
        Beginnings of a description; ``{noun}`` is the kind of product.
    """

    name: str
    brands: tuple[str, ...]
    adjectives: tuple[str, ...]
    openings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A department of the shop.

    Parameters
    ----------
    name
        As the category field shows it.
    nouns
        Kinds of product.
    features
        What a title may add after "with".
    variants
        Sizes and sets that a title may end with.
    uses
        Ends of a description, after "and it".
    price
        Dollars about which the prices lie.
    """

    name: str
    nouns: tuple[str, ...]
    features: tuple[str, ...]
    variants: tuple[str, ...]
    uses: tuple[str, ...]
    price: float


NEUTRAL: Final = Style(
    "neutral",
    ("Dailor", "Evrio", "Homestam"),
    ("Everyday", "Standard", "All-Purpose"),
    (
        "This {noun} does its work without fuss",
        "Our best-value {noun} comes ready to use",
        "A dependable {noun} for any household",
    ),
)

STYLES: Final = (
    Style(
        "mid-century",
        ("Tarnwick", "Oskelby"),
        ("Walnut", "Mid-Century", "Teak"),
        (
            "Oiled walnut gives this {noun} a mid-century look",
            "Tapered teak details make this a mid-century {noun}",
            "Rich walnut and teak grain carry this {noun}",
        ),
    ),
    Style(
        "minimalist",
        ("Plenoma", "Svarl"),
        ("Minimalist", "Nordic", "Matte White"),
        (
            "Clean Nordic lines leave nothing superfluous on this {noun}",
            "A minimalist {noun} in matte white",
            "Nordic restraint shapes this minimalist {noun}",
        ),
    ),
    Style(
        "rugged",
        ("Kragmoor", "Boltrane"),
        ("Rugged", "Heavy-Duty", "Waxed Canvas"),
        (
            "Riveted seams make this a heavy-duty {noun}",
            "This rugged {noun} is trimmed in waxed canvas",
            "Waxed canvas and riveted corners keep this {noun} rugged",
        ),
    ),
    Style(
        "farmhouse",
        ("Hearthwend", "Barnlowe"),
        ("Farmhouse", "Rustic", "Distressed Oak"),
        (
            "Distressed oak lends this {noun} farmhouse charm",
            "A rustic {noun} in the manner of an old farmhouse",
            "Every {noun} in rustic oak looks a little different",
        ),
    ),
    Style(
        "botanical",
        ("Petalune", "Mossarie"),
        ("Botanical", "Fern Print", "Wildflower"),
        (
            "A sketched fern print climbs around this {noun}",
            "Wildflower motifs adorn this botanical {noun}",
            "This {noun} wears a botanical pattern of wildflower stems",
        ),
    ),
    Style(
        "retro",
        ("Popsidel", "Jukarra"),
        ("Retro", "Pastel", "Chrome-Trim"),
        (
            "Pastel enamel and chrome give this {noun} a diner feel",
            "A retro {noun} straight out of a fifties diner",
            "Rounded chrome edges make this pastel {noun} properly retro",
        ),
    ),
    Style(
        "eco",
        ("Sprigwell", "Terrabund"),
        ("Bamboo", "Recycled", "Plastic-Free"),
        (
            "Fast-growing bamboo makes this a zero-waste {noun}",
            "A plastic-free {noun} from recycled fibre",
            "Recycled material and bamboo keep this {noun} zero-waste",
        ),
    ),
    Style(
        "glamour",
        ("Aurelisse", "Opalune"),
        ("Velvet", "Art Deco", "Gold-Plated"),
        (
            "Art deco fans and gold accents dress this {noun}",
            "Deep velvet tones turn this {noun} into a showpiece",
            "This {noun} pairs velvet with art deco gold",
        ),
    ),
)

CATEGORIES: Final = (
    Category(
        "Lighting",
        ("Desk Lamp", "Floor Lamp", "Pendant Light", "Wall Sconce"),
        ("Dimmer Switch", "Warm LED Bulb", "Glass Shade", "Fabric Cord"),
        ("Small", "Tall", "Set of 2"),
        ("throws an even light", "dims for late evenings", "brightens a dark corner"),
        59.0,
    ),
    Category(
        "Cookware",
        ("Frying Pan", "Saucepan", "Casserole Dish", "Stockpot"),
        ("Glass Lid", "Pouring Spout", "Stay-Cool Handle", "Non-Stick Base"),
        ("20 cm", "24 cm", "28 cm"),
        ("heats evenly on any hob", "goes from stove to table", "cleans up in a minute"),
        45.0,
    ),
    Category(
        "Bedding",
        ("Duvet Cover", "Pillowcase Pair", "Quilt Cover", "Mattress Cover"),
        ("Hidden Zip", "Brushed Finish", "Piped Edge", "Button Closure"),
        ("Single", "Queen", "King"),
        ("stays soft after many washes", "keeps sleepers warm", "breathes on hot nights"),
        52.0,
    ),
    Category(
        "Office",
        ("Pen Holder", "File Box", "Desk Organizer", "Letter Tray"),
        ("Label Window", "Three Compartments", "Felt Feet", "Card Slot"),
        ("Small", "Large", "Pack of 2"),
        ("brings order to a busy desk", "keeps papers within reach", "fits any work table"),
        22.0,
    ),
    Category(
        "Bags",
        ("Backpack", "Tote Bag", "Messenger Bag", "Weekender"),
        ("Laptop Sleeve", "Padded Straps", "Key Clip", "Inner Pocket"),
        ("15 L", "20 L", "30 L"),
        ("carries a day's load", "slides under an aircraft seat", "sits well on the shoulder"),
        68.0,
    ),
    Category(
        "Garden",
        ("Planter", "Watering Can", "Bird Feeder", "Garden Lantern"),
        ("Hanging Loop", "Sun Protection", "Easy-Grip Handle", "Frost Guard"),
        ("Small", "Large", "Set of 3"),
        ("stands up to rain and frost", "suits balconies and beds", "lasts for many seasons"),
        29.0,
    ),
    Category(
        "Bathroom",
        ("Soap Dispenser", "Soap Dish", "Toilet Brush Set", "Toothbrush Cup"),
        ("Non-Slip Base", "Rust Protection", "Stain Guard", "Wall Mount"),
        ("Small", "Large", "Set of 2"),
        ("dries quickly after a shower", "freshens up the washbasin", "copes with daily splashes"),
        26.0,
    ),
    Category(
        "Drinkware",
        ("Coffee Mug", "Tumbler", "Travel Cup", "Tea Flask"),
        ("Silicone Base", "Leakproof Lid", "Non-Drip Rim", "Double Wall"),
        ("350 ml", "500 ml", "Set of 4"),
        ("keeps drinks hot for hours", "pours without a drip", "feels good in the hand"),
        24.0,
    ),
    Category(
        "Seating",
        ("Armchair", "Bar Stool", "Dining Chair", "Desk Chair"),
        ("Footrest", "Lumbar Cushion", "Swivel Base", "Padded Seat"),
        ("Low", "High", "Set of 2"),
        ("invites long sitting", "tucks neatly under a table", "supports the back"),
        139.0,
    ),
    Category(
        "Storage",
        ("Storage Trunk", "Shelf Unit", "Side Cabinet", "Shoe Cabinet"),
        ("Hidden Castors", "Safety Lock", "Label Holder", "Folding Sides"),
        ("Narrow", "Wide", "Pack of 2"),
        ("tidies up a hallway", "hides the clutter", "makes use of narrow spaces"),
        74.0,
    ),
    Category(
        "Clocks",
        ("Wall Clock", "Alarm Clock", "Mantel Clock", "Kitchen Timer"),
        ("Silent Movement", "Large Numerals", "Glow Hands", "Magnetic Back"),
        ("10 cm", "15 cm", "25 cm"),
        ("keeps time to the second", "reads well across the room", "runs a year on one battery"),
        38.0,
    ),
    Category(
        "Pets",
        ("Dog Bed", "Cat Cave", "Pet Sofa", "Pet Carrier"),
        ("Washable Cover", "Non-Slip Feet", "Chew Guard", "Removable Cushion"),
        ("Small", "Medium", "Large"),
        ("gives pets a place of their own", "survives claws and teeth", "shakes out in a moment"),
        42.0,
    ),
)


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
