from trsr.records import Item
from trsr.summarize.keyphrase.vocabulary import Phrasebook


def titled(*titles: str) -> Phrasebook:
    return Phrasebook(Item(str(number), {"title": title}) for number, title in enumerate(titles))


FILLER = tuple(f"filler{number} thing{number}" for number in range(60))


def test_usual_is_the_mean_weight_with_a_little_for_what_is_rare():
    book = titled("walnut lamp", "walnut shelf", "steel shelf", "oak")
    # Two of four items, and 4 / 20 of an item for rareness.
    assert book.usual(("", "walnut")) == (2 + 0.2) / 4
    assert book.usual(("", "unheard")) == 0.2 / 4


def test_spelling_is_the_usual_one_and_lower_case_where_people_write_it_so():
    book = titled("Walnut Lamps", "Lamps of walnut", "NASA lamps", "Lamp by NASA", "Naruto game")
    assert book.surface(("", "lamp")) == "lamps"
    assert book.surface(("", "walnut")) == "walnut"
    assert book.surface(("", "nasa")) == "NASA"
    assert book.surface(("", "naruto")) == "Naruto"


def test_a_feature_of_another_catalogue_is_written_as_its_key():
    assert titled("oak").surface(("", "walnut lamp")) == "walnut lamp"


def test_what_stands_in_one_item_of_many_is_not_counted():
    book = titled("rare walnut lamp", "walnut shelf", "oak lamp", *FILLER)
    features = book.features(Item("", {"title": "rare walnut lamp"}))
    assert set(features) == {("", "walnut"), ("", "lamp")}


def test_a_part_of_a_longer_phrase_is_not_counted_by_itself():
    book = titled(*["detective conan"] * 4, *FILLER)
    assert set(book.features(Item("", {"title": "detective conan"}))) == {("", "detective conan")}


def test_words_that_meet_by_chance_are_no_phrase():
    pairs = [f"walnut word{number}" for number in range(20)] + [f"lamp word{number}" for number in range(20)]
    book = titled(*pairs, "walnut lamp", "walnut lamp", *FILLER)
    assert ("", "walnut lamp") not in book.features(Item("", {"title": "walnut lamp"}))


def test_boilerplate_of_descriptions_is_not_counted():
    items = [
        Item(
            str(number), {"title": f"oak thing{number % 5}", "description": "imported with great pride " * 8}
        )
        for number in range(60)
    ]
    features = Phrasebook(items).features(items[0])
    assert ("", "pride") not in features
    assert ("", "oak") in features


def test_an_item_with_a_known_id_but_other_text_is_read_anew():
    book = titled("walnut lamp", "steel shelf")
    assert set(book.features(Item("0", {"title": "steel"}))) == {("", "steel")}


def test_hashtags_name_interests_better_than_other_words_where_there_are_hashtags():
    book = titled(*["someone laughs # comic"] * 3, *["dogs bark # pets"] * 3)
    assert book.telling(("", "comic")) > 2 * book.telling(("", "laugh"))
    assert titled("walnut lamp").telling(("", "walnut")) == 1.0


def test_an_empty_catalogue_knows_nothing():
    book = titled()
    assert book.features(Item("", {"title": "walnut"})) == {}
    assert book.usual(("", "walnut")) == 0.05
