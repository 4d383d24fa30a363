import polars as pl

from trsr.baselines.random import Random

PAIRS = pl.DataFrame({"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"]})


def test_a_pair_keeps_its_number_whatever_else_is_scored() -> None:
    empty = pl.DataFrame()
    together = Random(0).score(empty, empty, PAIRS)
    alone = Random(0).score(empty, empty, PAIRS[2:])
    assert together[2] == alone[0]
    assert len(set(together.tolist())) == 3


def test_another_seed_gives_other_numbers() -> None:
    empty = pl.DataFrame()
    assert (Random(0).score(empty, empty, PAIRS) != Random(1).score(empty, empty, PAIRS)).all()
