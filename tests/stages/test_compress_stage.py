"""The command on a finished run: a smaller bundle that ranks, and a report that says what it costs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from trsr.artifacts import RunFolder
from trsr.cli.app import app
from trsr.config import Config
from trsr.errors import ConfigError
from trsr.ranking.scoring import RankingUser
from trsr.recommender import Recommender
from trsr.stages.compress import _drawn, compress_run


def test_compresses_a_finished_run(small: tuple[Config, RunFolder], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(small[1].path, run)
    result = CliRunner().invoke(
        app,
        ["compress", str(run), "--keep", "0.5", "--prompts", "8", "--users", "4"],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    report = json.loads((run / "compressed" / "compression.json").read_text())
    histories = pl.read_parquet(small[1].histories)
    assert report["users"] == 4 < report["test_users"] == (histories["split"] == "test").sum()
    assert f"measured on 4 of {report['test_users']} test users" in result.stdout
    systems = report["systems"]
    assert set(systems) == {"original", "whitened", "plain", "8 bits", "whitened, bytes of 8 bits"}
    assert systems["whitened"]["bytes_without_embeddings"] < systems["original"]["bytes_without_embeddings"]
    gap = systems["whitened, bytes of 8 bits"]["bytes"] - systems["8 bits"]["bytes"]
    assert abs(gap) < 0.1 * systems["original"]["bytes"]
    assert all(told["ms_a_prompt"] > 0 for told in systems.values())
    assert systems["whitened"]["layers"]
    assert {test["first"] for test in report["tests"]} == set(systems) - {"original"}
    for test in report["tests"]:
        change = systems[test["first"]]["means"]["NDCG@10"] - systems["original"]["means"]["NDCG@10"]
        assert test["difference"]["mean"] == pytest.approx(change)
    assert "error of 7 layers" in result.stdout
    smaller = Recommender.load(run / "compressed")
    catalogue = smaller.catalogue.ids
    ranked = smaller.rank(history=list(catalogue[:3]), candidates=list(catalogue[5:9]))
    assert {each.item_id for each in ranked.items} == set(catalogue[5:9])


def test_more_users_hold_fewer() -> None:
    users = [RankingUser(f"u{place}", "", (), ()) for place in range(40)]
    assert _drawn(users, None, 0) == _drawn(users, 99, 0) == users
    few, more = _drawn(users, 5, 0), _drawn(users, 15, 0)
    assert len(few) == 5
    assert few != users[:5]
    assert [user for user in more if user in few] == few
    assert _drawn(users, 5, 1) != few


def test_a_wrong_share_is_refused(small: tuple[Config, RunFolder]) -> None:
    with pytest.raises(ConfigError, match=r"--keep must be above 0 and at most 1, got 1\.5"):
        compress_run(small[1].path, 1.5)
