from baselines_shop import ITEMS

from trsr.baselines.item_encoder import item_texts


def test_fields_are_joined_in_the_order_asked_for() -> None:
    assert item_texts(ITEMS, ("brand", "title"))[0] == "Zagg cordless drill"
    assert item_texts(ITEMS)[:2] == ["cordless drill Zagg", "cordless saw Bolt"]
