import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_comparison import comparison_config

from trsr.artifacts import RunFolder
from trsr.experiments.compare import compare
from trsr.interop.candidates import open_frozen
from trsr.interop.importing import import_scores
from trsr.records import ITEM, SCORE, TARGET, USER


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("drawn_before", [True, False])
def test_an_imported_system_stands_in_the_tables_of_the_candidates_it_scored(
    tmp_path: Path, drawn_before: bool
) -> None:
    config = comparison_config(tmp_path / "run")
    folder = RunFolder(config.folder)
    compare(config, only=["popularity"], say=lambda line: None)
    drawn = folder.path / "comparison" / "candidates_popularity.parquet"
    if not drawn_before:
        drawn.unlink()
    frozen = open_frozen(folder)
    pairs = pl.concat([frozen.pairs(sampler) for sampler in frozen.candidates]).unique([USER, ITEM])
    # An oracle, but for chance: whoever reads scores into the wrong pairs loses it.
    noise = np.random.default_rng(0).random(pairs.height) / 2
    scores = pairs.select(USER, ITEM, (pl.col(TARGET).cast(pl.Float64) + pl.Series(noise)).alias(SCORE))
    file = tmp_path / "outside.parquet"
    scores.write_parquet(file)
    import_scores(folder, file, "oracle")
    said: list[str] = []
    written = compare(config, only=["oracle", "popularity"], say=said.append)
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    tables = {table["sampler"]: table["rows"] for table in told["tables"]}
    names = {sampler: [row["system"] for row in rows] for sampler, rows in tables.items()}
    assert names["uniform"] == ["popularity", "oracle"]
    assert tables["uniform"][1]["metrics"]["Recall@3"]["mean"] == 1.0
    assert names["popularity"] == (["popularity", "oracle"] if drawn_before else ["popularity"])
    assert told["baseline"] == "oracle"
    noted = [line for line in said if "has no scores of the popularity candidates" in line]
    assert len(noted) == (0 if drawn_before else 1)
