from trsr.records import Item
from trsr.summarize.keyphrase.vocabulary import FieldKind, mentions, parts

KINDS = {
    "title": FieldKind.HEADING,
    "description": FieldKind.BODY,
    "brand": FieldKind.MAKER,
    "price": FieldKind.IGNORED,
}


def of(**fields: str):
    return {mention.feature: mention for mention in mentions(Item("1", fields), KINDS)}


def keys(**fields: str) -> set[str]:
    return {key for field, key in of(**fields) if not field}


def test_phrases_have_no_stop_word_or_number_at_their_edges():
    assert keys(title="the best walnut lamp for 12 desks") == {
        "best",
        "walnut",
        "lamp",
        "walnut lamp",
        "desk",
    } - {"best"}


def test_phrases_end_at_punctuation():
    assert keys(title="walnut, lamp") == {"walnut", "lamp"}


def test_connectors_may_stand_inside_and_openers_at_the_front():
    assert "game of throne" in keys(title="Game of Thrones")
    assert "new york" in keys(title="a trip to New York")
    assert "lamp with shade" not in keys(title="lamp with shade")


def test_a_title_outweighs_a_description():
    found = of(description="walnut and steel", title="Walnut")
    assert found["", "walnut"].weight == 1.0
    assert found["", "walnut"].surface == "Walnut"
    assert found["", "walnut"].is_in_heading
    assert found["", "steel"].weight == 0.3
    assert not found["", "steel"].is_in_heading


def test_the_makers_name_is_not_said_again_as_a_phrase():
    found = of(brand="Stainless Town", title="Stainless Town stainless steel washer")
    assert ("brand", "stainless town") in found
    assert ("", "stainless steel") in found
    assert ("", "stainless") not in found
    assert ("", "stainless town") not in found


def test_ignored_fields_and_overlong_values_say_nothing():
    assert of(price="12.50") == {}
    assert of(brand="b" * 41) == {}
    assert of(title="x" * 25) == {}


def test_things_stand_where_their_name_ends():
    found = of(title="steel desk lamp with shade")
    things = {key for (_, key), mention in found.items() if mention.is_thing}
    assert things == {"lamp", "desk lamp", "steel desk lamp", "shade"}


def test_words_inside_hyphens_count_as_parts():
    assert parts(("", "heavy-duty foot_ball")) == {"heavy", "duty", "foot", "ball"}


def test_phrases_of_scripts_without_spaces_are_written_without():
    found = of(title="園芸用の手袋、USBケーブル")
    assert {mention.surface for mention in found.values()} == {
        "園芸",
        "園芸用",
        "手袋",
        "園芸用の手袋",
        "USB",
        "ケーブル",
        "USB ケーブル",
    }
    assert "花王 石鹸" not in keys(brand="花王石鹸", title="花王石鹸")
