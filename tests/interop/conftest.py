"""A prepared run with ids that get into the way, two samplers, and the scores of two systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trsr.artifacts import RunFolder, write_parquet
from trsr.config import Config
from trsr.config.data import DemoData, HistoryWindow
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared, prepare, save
from trsr.interop.candidates import Frozen, open_frozen


def _awkward(column: str) -> pl.Expr:
    """Put a space, a percent sign, a quote and a letter beyond ASCII into some ids."""
    name = pl.col(column) if column in ("user_id", "item_id", "target") else pl.element()
    changed = (
        name.str.replace("7", "7 %\u00e9", literal=True)
        .str.replace("5", '5"', literal=True)
        .str.replace("3", "3:", literal=True)
    )
    return changed if column in ("user_id", "item_id", "target") else pl.col(column).list.eval(changed)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = Config(data=DemoData(users=150, items=90), history=HistoryWindow(min=9, max=26))
    made = prepare(config)
    histories = made.histories.with_columns(map(_awkward, ("user_id", "history", "target"))).sort("user_id")
    items = made.items.with_columns(_awkward("item_id"), title=pl.col("title") + pl.lit('\t19" \n wide'))
    background = made.background.with_columns(map(_awkward, ("user_id", "item_ids")))
    rule = config.candidates
    candidates = draw_candidates(histories, items, rule, 0, background)
    run = RunFolder(tmp_path_factory.mktemp("exchange") / "run")
    save(Prepared(items, histories, candidates, background, made.findings), run)
    popular = draw_candidates(
        histories, items, rule.model_copy(update={"sampler": "popularity"}), 0, background
    )
    write_parquet(
        popular.filter(pl.col("split") != "train"), run.path / "comparison" / "candidates_popularity.parquet"
    )
    pairs = open_frozen(run).all_pairs()
    rng = np.random.default_rng(0)
    # A permutation over 2^20 keeps 32-bit floats apart; the second system has ties and extreme values.
    chance = rng.permutation(pairs.height) / 2**20
    own = pairs.select(
        "user_id",
        "split",
        pl.lit("uniform").alias("sampler"),
        "item_id",
        pl.Series("score", chance),
    )
    tied = own.with_columns(pl.Series("score", rng.choice([0.1 + 0.2, 1e-300, -1e17, 1 / 3], pairs.height)))
    write_parquet(own, run.scores / "random.parquet")
    write_parquet(tied, run.scores / "popularity.parquet")
    return run


@pytest.fixture(scope="session")
def frozen(folder: RunFolder) -> Frozen:
    return open_frozen(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
