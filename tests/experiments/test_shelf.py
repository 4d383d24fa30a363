from pathlib import Path

import polars as pl
import pytest

from trsr.experiments.scores import Card, Shelf

TABLE = pl.DataFrame({"user_id": ["u"], "uniform": [[0.5, 0.25]]})
CARD = Card(1.5, 0.5, 10, "4 a positive", {"epochs": 3})


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    shelf = Shelf(tmp_path)
    shelf.put("sasrec/seed-0", "fingerprint", TABLE, CARD)
    return shelf


def test_what_was_put_is_found(shelf: Shelf) -> None:
    found = shelf.find("sasrec/seed-0", "fingerprint")
    assert found is not None
    assert found[0].equals(TABLE)
    assert found[1] == CARD


@pytest.mark.parametrize(
    ("name", "fingerprint"), [("sasrec/seed-0", "another"), ("sasrec/seed-1", "fingerprint")]
)
def test_other_settings_and_names_find_nothing(shelf: Shelf, name: str, fingerprint: str) -> None:
    assert shelf.find(name, fingerprint) is None


@pytest.mark.parametrize(
    "broken", ["cut table", "other table", "cut card", "no table", "no card", "odd card"]
)
def test_damaged_answers_are_made_again(shelf: Shelf, tmp_path: Path, broken: str) -> None:
    table, card = tmp_path / "sasrec" / "seed-0.parquet", tmp_path / "sasrec" / "seed-0.json"
    match broken:
        case "cut table":
            table.write_bytes(table.read_bytes()[:-10])
        case "other table":
            TABLE.with_columns(uniform=pl.lit(1.0)).write_parquet(table)
        case "cut card":
            card.write_text(card.read_text()[:-10])
        case "no table":
            table.unlink()
        case "no card":
            card.unlink()
        case _:
            card.write_text("[]")
    assert shelf.find("sasrec/seed-0", "fingerprint") is None
    shelf.put("sasrec/seed-0", "fingerprint", TABLE, CARD)
    assert shelf.find("sasrec/seed-0", "fingerprint") is not None


def test_a_table_without_its_card_is_not_complete(tmp_path: Path) -> None:
    """A process that dies between the two leaves the new table and no card, never the old card beside it."""
    shelf = Shelf(tmp_path)
    shelf.put("a", "old", TABLE, CARD)

    class DyingError(Exception):
        pass

    def die(*_: object) -> None:
        raise DyingError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trsr.experiments.scores.write_json", die)
        with pytest.raises(DyingError):
            shelf.put("a", "new", TABLE, CARD)
    assert shelf.find("a", "old") is None
    assert shelf.find("a", "new") is None
