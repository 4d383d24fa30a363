from trsr.records import Item
from trsr.summarize.keyphrase.interests import Interests, join, observe
from trsr.summarize.keyphrase.vocabulary import Phrasebook
from trsr.summarize.keyphrase.writer import Chooser

KINDS_OF_THINGS = ("lamp", "drill", "chair", "kettle", "rug")
BRANDS = ("Dewport", "Oakley", "Svarl", "Evrio", "Brandt")
ITEMS = {
    f"{thing} {brand}": Item(
        f"{thing} {brand}", {"title": f"{thing} by hand", "brand": brand, "category": f"{thing}s"}
    )
    for thing in KINDS_OF_THINGS
    for brand in BRANDS
}
PHRASEBOOK = Phrasebook(ITEMS.values())
DECAY = 0.6


def block(*names: str) -> Interests:
    return observe([PHRASEBOOK.features(ITEMS[name]) for name in names])


def history(*blocks: Interests) -> Interests:
    whole = blocks[0]
    for newer in blocks[1:]:
        whole = join(whole, newer, DECAY)
    return whole


LAMPS = block(*["lamp Dewport"] * 4, "rug Svarl")
DRILLS = block(*["drill Evrio"] * 4, "rug Svarl")


def choose(interests: Interests, phrases: int = 6):
    return Chooser(PHRASEBOOK, phrases, DECAY).choose(interests)


def test_one_block_has_interests_and_no_changes():
    taste = choose(LAMPS)
    assert (taste.subjects, taste.makers) == (("lamps",), ("Dewport",))
    assert (taste.rising, taste.fading) == ((), ())


def test_a_change_of_taste_is_named_and_the_old_one_stays_first():
    taste = choose(history(LAMPS, LAMPS, DRILLS))
    assert (taste.subjects, taste.makers) == (("lamps", "rugs"), ("Dewport", "Svarl"))
    assert taste.rising == ("drills", "Evrio")
    assert taste.fading == ("lamps",)


def test_order_of_blocks_decides_what_rises():
    taste = choose(history(DRILLS, DRILLS, LAMPS))
    assert taste.subjects == ("drills", "rugs")
    assert taste.rising == ("lamps", "Dewport")


def test_a_steady_taste_has_no_changes():
    taste = choose(history(LAMPS, LAMPS, LAMPS))
    assert (taste.rising, taste.fading) == ((), ())


def test_a_short_newest_block_is_read_with_the_one_before_it():
    taste = choose(history(LAMPS, LAMPS, DRILLS, block("rug Svarl")))
    assert "drills" in taste.rising


def test_one_purchase_is_no_change_of_taste():
    taste = choose(history(LAMPS, LAMPS, block("lamp Dewport", "lamp Dewport", "kettle Brandt")))
    assert taste.rising == ()


def test_nothing_is_said_twice_and_no_more_than_asked():
    for phrases in (1, 2, 6):
        taste = choose(history(LAMPS, DRILLS, LAMPS), phrases)
        lasting = [*taste.subjects, *taste.makers, *taste.features]
        assert 0 < len(lasting) <= phrases
        assert len(set(lasting)) == len(lasting)
        assert "lamp" not in taste.features  # "lamps" is said already


def test_without_text_there_is_nothing_to_say():
    taste = choose(observe([{}, {}]))
    assert not any((taste.subjects, taste.makers, taste.features, taste.rising, taste.fading))


def test_without_categories_things_come_before_what_kind_they_are():
    titles = [
        "steel desk lamp",
        "steel shelf",
        "steel floor lamp",
        "oak table",
        "oak door",
        "felt hat",
        "silk tie",
    ]
    items = [Item(title, {"title": title}) for title in titles]
    phrasebook = Phrasebook(items)
    taste = Chooser(phrasebook, 6, DECAY).choose(observe([phrasebook.features(item) for item in items[:3]]))
    assert taste.subjects == ("lamp",)
    assert taste.features[0] == "steel"
