"""Models that rank as they stand: systems of a comparison, and the ranking model of a run."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tiny_shop

from counting_server import counting_server
from scoring_server import ScoringServer, scoring_server
from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.ranking import HuggingFaceModel
from trsr.data.prepare import prepare, read_items
from trsr.errors import ConfigError
from trsr.experiments.compare import compare
from trsr.experiments.tables import select_systems
from trsr.hf.loading import load_language_model
from trsr.pipeline import run
from trsr.recommender import Recommender
from trsr.stages.untrained import plan_scores

pytestmark = pytest.mark.usefixtures("undrawn")
SMALL: dict[str, Any] = {
    "data__users": 24,
    "data__items": 60,
    "split": {"valid": 0.2, "test": 0.2},
    "evaluation__baselines": ["popularity"],
    "summary__paradigm": "none",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, path = tiny_shop.ranker(), tmp_path_factory.mktemp("models") / "tiny"
    made.model.save_pretrained(path)
    made.tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[ScoringServer]:
    loaded = load_language_model(HuggingFaceModel(kind="huggingface", path=str(folder)), "cpu")
    with scoring_server(loaded.model, loaded.tokenizer) as running:
        yield running


def models(folder: Path, server: ScoringServer) -> list[dict[str, Any]]:
    here = {"kind": "huggingface", "path": str(folder)}
    there = {"kind": "endpoint", "protocol": "sglang", "base_url": server.base_url, "model": "org/far"}
    return [
        {"model": here},
        {"model": here, "by": "likelihood"},
        {"model": there | {"tokenizer": str(folder)}},
    ]


def test_models_that_stand_as_they_are_have_rows_beside_the_others_and_are_asked_once(
    folder: Path, server: ScoringServer, tmp_path: Path
) -> None:
    standing = models(folder, server)
    comparison = {"baselines": ["popularity"], "language_models": [], "untrained": standing, "seeds": [0, 1]}
    config = small_config(tmp_path / "run", **SMALL, comparison=comparison)
    said: list[str] = []
    written = compare(config, say=said.append)
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    names = ["popularity", "tiny p(yes)", "tiny likelihood", "far p(yes)"]
    assert [system["name"] for system in told["systems"]] == names
    assert [[row["system"] for row in table["rows"]] for table in told["tables"]] == [names] * 2
    assert all(system["training_examples"] is None for system in told["systems"][1:])
    assert "how much likelier" in told["systems"][2]["description"]
    # The model behind the server is the one here.
    kept = tmp_path / "run" / "comparison" / "scores"
    here, far = (
        pl.read_parquet(kept / name / "seed-0.parquet")["score"].to_numpy()
        for name in ("tiny%20p%28yes%29", "far%20p%28yes%29")
    )
    np.testing.assert_allclose(here, far, atol=2e-6)
    assert not list((tmp_path / "run").rglob("*.safetensors")), "weights stay where they are"
    asked = dict(server.asked)
    compare(config, only=["far p(yes)", "popularity"], say=said.append)
    assert dict(server.asked) == asked


def test_a_run_ranks_with_a_model_behind_a_server(
    folder: Path, server: ScoringServer, tmp_path: Path
) -> None:
    model = models(folder, server)[2]["model"]
    said: list[str] = []
    config = small_config(tmp_path / "run", **SMALL, model=model)
    made = run(config, until="prepare", say=said.append)
    [planned] = plan_scores(config, made, read_items(made))
    made = run(config, say=said.append)
    assert "no-summary" in json.loads(made.metrics.read_text(encoding="utf-8"))["systems"]
    assert "org/far" in made.report.read_text(encoding="utf-8")
    entry = made.entries()["scores/no-summary"]
    paid = entry.details["details"]
    assert (paid["calls"], paid["prompt_tokens"]) == (planned.bill.calls, planned.bill.prompt_tokens)
    assert paid["calls"] > 0
    [again] = plan_scores(config, made, read_items(made))
    assert (again.bill.calls, again.bill.calls_reused, again.bill.money) == (0, paid["calls"], 0.0)
    assert not made.bundle.exists()
    assert "  no bundle: the ranking model is behind a server" in said


def test_a_run_without_training_makes_a_bundle_that_ranks(folder: Path, tmp_path: Path) -> None:
    model = {"kind": "huggingface", "path": str(folder)}
    given = {"model": model, "training": {"method": "none"}}
    made = run(small_config(tmp_path / "run", **SMALL, **given), until="score", say=lambda line: None)
    scores = pl.read_parquet(made.scores / "no-summary.parquet").filter(pl.col("split") == "test")
    user = scores["user_id"][0]
    rows = scores.filter(pl.col("user_id") == user)
    history = pl.read_parquet(RunFolder(made.path).histories).filter(pl.col("user_id") == user)["history"][0]
    ranked = Recommender.load(made.path).rank(history=list(history), candidates=rows["item_id"].to_list())
    got = {each.item_id: each.score for each in ranked.items}
    for item, score in rows.select("item_id", "score").iter_rows():
        assert got[item] == pytest.approx(score, abs=1e-6)


def test_a_chat_model_has_a_row_by_the_orders_that_it_writes(tmp_path: Path) -> None:
    """Behind the server is one that knows each user's target, and forgets a candidate of the first list."""
    comparison: dict[str, Any] = {"baselines": ["popularity"], "language_models": [], "seeds": [0]}
    chat = {"kind": "endpoint", "protocol": "chat", "model": "org/writes"}
    with counting_server() as server:
        comparison["untrained"] = [{"model": chat | {"base_url": server.base_url}, "by": "order"}]
        config = small_config(tmp_path / "run", **SMALL, comparison=comparison)
        prepared = prepare(config)
        titles = dict(zip(prepared.items["item_id"], prepared.items["title"], strict=True))
        newest = [titles[history[-1]] for history in prepared.histories["history"]]
        targets = [titles[item] for item in prepared.histories["target"]]
        number_of_call = itertools.count()

        def order(prompt: str) -> str:
            shown = re.findall(r"\\n(\d+)\. title: ([^;\\]*)", prompt)
            assert len(shown) == 21, "each sampler's candidates are a list of their own"
            *_, last = re.findall(r"\\n- title: ([^;\\]*)", prompt)
            # Titles are cut at the line's end.
            wanted = [target for title, target in zip(newest, targets, strict=True) if title.startswith(last)]
            first = sorted(shown, key=lambda line: not any(one.startswith(line[1]) for one in wanted))
            return " > ".join(number for number, _ in first[: 20 + min(1, next(number_of_call))])

        server.say = order
        written = compare(config, say=lambda line: None)
        calls = sum(server.asked.values())
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    [_, row] = told["tables"][0]["rows"]
    assert row["system"] == "writes order"
    assert calls == 2 * sum(told["provenance"]["users"][split] for split in ("valid", "test"))
    description = told["systems"][1]["description"]
    assert description.startswith("A chat model, not trained here, is shown all candidates at once")
    assert description.endswith(f"Of {calls} orders 1 left candidates out, which stand level behind.")
    by_name = {each["system"]: each["metrics"]["NDCG@10"]["mean"] for each in told["tables"][0]["rows"]}
    assert by_name["writes order"] > by_name["popularity"] + 0.2


def test_what_can_not_be_is_a_wrong_setting(folder: Path, server: ScoringServer, tmp_path: Path) -> None:
    here, _, there = models(folder, server)

    def config(*untrained: dict[str, Any], **further: Any) -> Config:
        return small_config(tmp_path, **{"comparison": {"untrained": list(untrained)}} | further)

    with pytest.raises(ConfigError, match=r"likelihood is of a model on this machine"):
        config(there | {"by": "likelihood"})
    chat = {"kind": "endpoint", "protocol": "chat", "base_url": "http://localhost:9/v1", "model": "m"}
    for wrong in (there | {"by": "order"}, here | {"by": "order"}, {"model": chat}):
        with pytest.raises(ConfigError, match=r"set by: order and model.protocol: chat together, or neither"):
            config(wrong)
    with pytest.raises(ConfigError, match=r"two are 'tiny p\(yes\)'"):
        config(here, here)
    few = here["model"] | {"quantization": "4bit"}
    with pytest.raises(ConfigError, match=r"training.method: full changes all weights"):
        small_config(tmp_path, model=few, training__method="full")
    wanted = select_systems(config(here | {"name": "SmolLM2"}, there), ["SmolLM2"])
    assert [each.label for each in wanted.untrained] == ["SmolLM2"]
