"""`trsr export` of a model: from a run or a bundle, and the next step where it can't be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from trsr.artifacts import RunFolder
from trsr.cli import app
from trsr.config import Config


@pytest.mark.parametrize("part", ["", "bundle"])
def test_a_run_and_its_bundle_give_a_classifier(
    part: str, fused_run: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    told = ["--to", "sequence-classification", "--out", str(out)]
    done = CliRunner().invoke(app, ["export", str(fused_run[1].path / part), *told])
    assert done.exit_code == 0, done.output
    assert "100 prompts score there as here" in done.output
    assert json.loads((out / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]


def refused(folder: Path, tmp_path: Path) -> str:
    done = CliRunner().invoke(
        app, ["export", str(folder), "--to", "sentence-transformers", "--out", str(tmp_path / "out")]
    )
    assert not (tmp_path / "out").exists()
    return str(done.exception)


def test_a_model_behind_a_server_stays_there(tmp_path: Path) -> None:
    model = {"kind": "endpoint", "protocol": "vllm", "model": "big", "tokenizer": "big"}
    model["base_url"] = "http://127.0.0.1:9/v1"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    assert "big behind a server; export it where its files are" in refused(tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"by": "likelihood"}, "by the likelihood of texts, not by yes and no"),
        ({"base": {"quantization": "4bit"}}, "train with model.quantization: none"),
    ],
)
def test_what_no_other_tool_can_have_is_told(
    change: dict[str, object], reason: str, fused_run: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    bundle = shutil.copytree(fused_run[1].bundle, tmp_path / "bundle")
    card = bundle / "model" / "ranker.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    told = json.loads((bundle / "bundle.json").read_text())
    del told["files"]["model/ranker.json"]
    (bundle / "bundle.json").write_text(json.dumps(told))
    assert reason in refused(bundle, tmp_path)
