from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from trsr.artifacts import RunFolder
from trsr.evaluation.metrics import metrics_at, user_metrics
from trsr.interop.candidates import Frozen
from trsr.interop.export import DataTool, export
from trsr.records import Tool


@pytest.mark.parametrize("tool", get_args(DataTool))
def test_everything_that_is_named_is_written(tool: DataTool, folder: RunFolder, out: Path) -> None:
    paths = export(folder, tool, out)
    assert len(set(paths)) == len(paths)
    assert {path for path in out.rglob("*") if path.is_file()} == set(paths)
    assert all(path.stat().st_size for path in paths)


@pytest.mark.parametrize("tool", get_args(DataTool))
def test_the_same_run_gives_the_same_files(tool: DataTool, folder: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = {path: path.read_bytes() for path in export(folder, tool, out)}
    assert {path: path.read_bytes() for path in export(folder, tool, out)} == first


@pytest.mark.parametrize("sampler", ["uniform", "popularity"])
def test_exported_recommendations_give_our_recall_by_their_ranks(
    sampler: str, folder: RunFolder, frozen: Frozen, out: Path
) -> None:
    """Recall by the rank column alone, as RecTools counts it, on scores without ties."""
    export(folder, Tool.RECTOOLS, out)
    reco = pl.read_parquet(out / f"reco_random_{sampler}.parquet")
    targets = pl.concat([pl.read_parquet(out / f"targets_{split}.parquet") for split in ("valid", "test")])
    found = targets.join(reco, on=["user_id", "item_id"], how="left").sort("user_id")
    mine = user_metrics(frozen.candidates[sampler], reco, metrics_at((1, 3, 10)))
    for k in (1, 3, 10):
        assert (found["rank"] <= k).cast(pl.Float64).to_list() == mine[f"Recall@{k}"].to_list()
