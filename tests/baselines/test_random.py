import numpy as np
import polars as pl
from baselines_shop import ITEMS, learnt_from, row

from trsr.baselines.simple import Random


def opened(seed: int, items: pl.DataFrame = ITEMS) -> Random:
    random = Random(seed=seed)
    random.fit(learnt_from(items=items))
    return random


def test_a_pair_keeps_its_number_whatever_else_is_scored() -> None:
    together = opened(0).score(["u", "v"], [row(), row(1)])
    assert len(set(together.ravel().tolist())) == 8
    alone = opened(0).score(["v"], [row()], row(2, 0)[None])
    assert alone.tolist() == [[together[1, 2], together[1, 0]]]
    turned = opened(0, ITEMS.reverse()).score(["u", "v"], [row(), row()])
    assert np.array_equal(turned[:, ::-1], together)


def test_another_seed_gives_other_numbers() -> None:
    assert (opened(0).score(["u"], [row()]) != opened(1).score(["u"], [row()])).all()
