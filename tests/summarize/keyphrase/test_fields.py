import pytest

from trsr.records import Item
from trsr.summarize.keyphrase.vocabulary import FieldKind, recognise


def catalogue(name: str, texts: list[str]) -> list[Item]:
    return [Item(str(number), {"title": f"thing {number}", name: text}) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("name", "texts", "kind"),
    [
        ("category", ["a", "b", "c", "d"], FieldKind.SUBJECT),
        ("subcategory", ["football_nfl", "newsus"], FieldKind.SUBJECT),
        ("Brand", ["Dewport", "Oakley & Sons"], FieldKind.MAKER),
        ("author", ["A. Smith", "B. Jones"], FieldKind.MAKER),
        ("colour", ["red", "red", "dark blue", "dark blue"], FieldKind.FEATURE),
        ("price", ["9.99", "12"], FieldKind.IGNORED),
        ("rating", ["4.5", "3", "n/a"], FieldKind.IGNORED),
        ("subtitle", ["one of a kind", "another one"], FieldKind.HEADING),
        ("description", ["word " * 40, "text " * 30], FieldKind.BODY),
        ("category", ["a long sentence that only says that this is no category", "x " * 20], FieldKind.BODY),
    ],
)
def test_kind_of_a_field(name, texts, kind):
    assert recognise(catalogue(name, texts))[name] is kind


def test_the_shortest_prose_is_the_heading_however_long():
    items = [Item("1", {"text": "word " * 40, "more": "word " * 80}), Item("2", {"text": "other " * 50})]
    assert recognise(items) == {"text": FieldKind.HEADING, "more": FieldKind.BODY}


def test_no_items_have_no_fields():
    assert recognise([]) == {}


def test_a_path_of_categories_has_several_values():
    assert FieldKind.SUBJECT.parts("Home > Kitchen | Pans; Lids") == ["Home", "Kitchen", "Pans", "Lids"]
    assert FieldKind.MAKER.parts("Rock | Pop") == ["Rock | Pop"]


def test_lengths_are_in_words_where_no_spaces_stand():
    text = "軽くて丈夫な素材で作られた園芸用品で初心者にも扱いやすく贈り物にもよい"
    items = [Item(str(place), {"title": f"植木鉢{place}号", "text": f"{text}{place}"}) for place in range(4)]
    assert recognise(items) == {"title": FieldKind.HEADING, "text": FieldKind.BODY}
