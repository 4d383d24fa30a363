"""Comparisons by every protocol: all systems take part, and each figure says how it was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_comparison import comparison_config

from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.errors import ConfigError
from trsr.experiments.ablate import ablate
from trsr.experiments.compare import compare
from trsr.experiments.study import study
from trsr.pipeline import run

ROLLING = {"protocol": "rolling", "valid": 0.15, "test": 0.15}


@pytest.fixture(scope="module")
def rolling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rolling rows of the demo shop, by simple systems, a language model and the fused ranker."""
    config = comparison_config(
        tmp_path_factory.mktemp("rolling") / "run",
        data__users=60,
        split=ROLLING,
        history={"min": 8, "max": 12},
        comparison={
            "baselines": ["popularity", "tfidf", {"kind": "mix", "systems": ["tfidf", "popularity"]}],
            "language_models": ["tallrec"],
            "seeds": [0],
            "retrieve": 10,
            "samplers": ["uniform"],
        },
        fusion__companions=["tfidf", "popularity"],
    )
    compare(config, say=lambda line: None)
    return RunFolder(config.folder).path / "comparison"


def test_every_figure_of_rolling_rows_is_named_so(rolling: Path) -> None:
    table = pl.read_csv(rolling / "comparison.csv")
    figures = [name for name in table.columns if "NDCG@10" in name]
    assert {name.partition(" NDCG")[0] for name in figures} == {
        "rolling, uniform",
        "rolling, catalogue",
        "rolling, two-stage",
    }
    kinds = dict(table.select("system", "rolling, two-stage NDCG@10").iter_rows())
    assert {"tallrec", "fused"} <= {name for name, value in kinds.items() if value is not None}


def test_rows_are_counted_beside_the_users_they_are_of(rolling: Path) -> None:
    told = json.loads((rolling / "comparison.json").read_text(encoding="utf-8"))
    histories = pl.read_parquet(rolling.parent / "dataset" / "histories.parquet").filter(split="test")
    persons = histories["person"].n_unique()
    assert persons < histories.height
    note = f"{histories.height:,} rows of {persons:,} users: means are over rows, intervals over users."
    assert note in told["catalogue"]["note"]
    assert "the history among them" in told["catalogue"]["note"]
    assert note in told["tables"][0]["note"]
    page = (rolling / "comparison.html").read_text(encoding="utf-8")
    assert "rolling rows" in page


def test_the_history_stays_in_the_catalogue_of_rolling_rows(rolling: Path) -> None:
    items = pl.read_parquet(rolling.parent / "dataset" / "items.parquet").height
    [path] = (rolling / "scores" / "popularity").glob("*.catalogue.parquet")
    ranks = pl.read_parquet(path)
    assert ranks["others"].unique().to_list() == [items - 1]
    assert ranks["retrieved"].list.len().unique().to_list() == [20]  # for the measures of lists


def news(folder: Path) -> dict[str, object]:
    """Impressions of thirty readers who like one of two topics: two to four candidates, one click or two."""
    draw = np.random.default_rng(0)
    topics = ("stock market", "football match")
    texts = [f"N{n}\tnews\tlocal\t{topics[n % 2]} {n}\t\t\t\t\n" for n in range(40)]
    (folder / "news.tsv").write_text("".join(texts), encoding="utf-8")
    for name, number in (("behaviors", 0), ("valid", 100), ("test", 200)):
        lines = []
        for user in range(30):
            past = " ".join(f"N{2 * n + user % 2}" for n in draw.permutation(15)[:6])
            liked, others = (f"N{30 + 2 * draw.integers(5) + side}" for side in (user % 2, 1 - user % 2))
            shown = [f"{liked}-1", f"{others}-0", f"N{user % 2}-1", f"N{1 - user % 2}-0"]
            told = " ".join(shown[: 4 - user % 3])
            lines.append(f"{number + user}\tU{user}\t11/12/2019 2:14:46 PM\t{past}\t{told}\n")
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    measured = {name: str(folder / f"{name}.tsv") for name in ("valid", "test")}
    return {"format": "mind", "path": str(folder), **measured}


def test_impressions_are_measured_with_all_their_clicks(tmp_path: Path) -> None:
    config = small_config(
        tmp_path / "run",
        data=news(tmp_path),
        split={"protocol": "impressions"},
        history={"min": 5, "max": 12},
        candidates={"sampler": "impressions", "negatives": 4},
        comparison={"baselines": ["random", "tfidf", "mix"], "language_models": ["tallrec"], "seeds": [0]},
        fusion__companions=["tfidf"],
    )
    said: list[str] = []
    written = compare(config, say=said.append)
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    [table] = told["tables"]
    assert (table["sampler"], told["catalogue"], told["two_stage"]) == ("impressions", None, None)
    auc = {row["system"]: row["metrics"]["AUC"]["mean"] for row in table["rows"]}
    assert auc["tfidf"] > 0.9 > auc["random"]
    assert set(auc) == {"random", "tfidf", "mix", "tallrec"}
    # Rows with several clicks are nothing that the fused ranker can learn from.
    assert any("no fused ranker" in line and "one positive" in line for line in said)
    # Among two or three candidates a constant would have a higher NDCG@10 than among four.
    asked = pl.read_parquet(tmp_path / "run" / "dataset" / "candidates.parquet").filter(split="test")
    assert sorted(asked["candidates"].list.len().unique()) == [2, 3, 4]


@pytest.mark.parametrize("command", [run, ablate, study])
def test_commands_that_know_users_alone_refuse_rows(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    config = small_config(tmp_path / "run", split=ROLLING)
    with pytest.raises(ConfigError, match="measure rows with `trsr compare`"):
        command(config)
