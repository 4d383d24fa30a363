"""The words of the demo shop: styles, which a taste is made of, and categories, which an intent is made of.

Brand names are invented. No style's words occur in another style, in a category
or in the neutral wording, so that what a text says about taste is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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
