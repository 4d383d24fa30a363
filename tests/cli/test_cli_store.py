from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from command_line import trsr

from counting_server import counting_server
from small_run import small_config_file
from trsr.artifacts import RunFolder
from trsr.config import load
from trsr.pipeline import run


@pytest.fixture(scope="module")
def summarized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, a summarized run and its store."""
    folder = tmp_path_factory.mktemp("store")
    with counting_server() as server:
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted"}
        config = small_config_file(
            folder, data__users=40, summary__writer=writer, summary__price={"prompt": 1.0, "completion": 1.0}
        )
        run(load(config), until="summarize", say=lambda line: None)
    return folder


def users_of(folder: Path) -> int:
    return pl.read_parquet(folder / "run" / "summaries.parquet").height


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    config = (target / "small.yaml").read_text().replace(str(folder), str(target))
    (target / "small.yaml").write_text(config)
    return target


def test_stats_tell_answers_tokens_money_and_users(summarized: Path) -> None:
    done = trsr("store", "stats", "--config", summarized / "small.yaml")
    assert done.returncode == 0, done.stderr
    bill = json.loads((summarized / "run" / "bill.json").read_text())["actual"]
    head, model, money, users = done.stdout.splitlines()
    assert f"{bill['calls']:,} answers, {bill['prompt_tokens']:,} prompt" in head
    assert model.strip().startswith("counted: ")
    assert money.strip() == f"money: {bill['money']:,.2f} USD"
    assert users.strip() == f"{users_of(summarized)} users; 0 answers without a user on record"
    unpriced = trsr("store", "stats", "--store", f"sqlite:///{summarized / 'answers.db'}")
    assert "money: unknown" in unpriced.stdout


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_export_holds_every_answer_and_its_users(summarized: Path, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"answers{suffix}"
    done = trsr("store", "export", target, "--config", summarized / "small.yaml")
    assert done.returncode == 0, done.stderr
    frame = pl.read_ndjson(target) if suffix == ".jsonl" else pl.read_parquet(target)
    calls = json.loads((summarized / "run" / "bill.json").read_text())["actual"]["calls"]
    assert frame.height == calls
    assert frame["users"].explode().n_unique() == users_of(summarized)
    assert json.loads(frame["sampling"][0])["max_new_tokens"] == 8
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_pruning_tells_first_and_deletes_only_when_told_to(summarized: Path, tmp_path: Path) -> None:
    folder = copy(summarized, tmp_path / "copy")
    place = ("--config", folder / "small.yaml")
    told = trsr("store", "prune", *place, "--older-than", 0)
    assert "would delete: " in told.stdout
    assert "nothing was deleted" in told.stdout
    assert "would delete: 0 answers" in trsr("store", "prune", *place, "--stale-templates").stdout
    assert "would delete: 0 answers" in trsr("store", "prune", *place, "--without-user").stdout
    done = trsr("store", "prune", *place, "--model", "counted", "--yes")
    assert done.stdout.startswith(told.stdout.partition(";")[0].replace("would delete", "deleted"))
    assert ": 0 answers" in trsr("store", "stats", *place).stdout


def test_templates_that_changed_make_answers_stale(summarized: Path, tmp_path: Path) -> None:
    folder = copy(summarized, tmp_path / "copy")
    templates = folder / "templates"
    templates.mkdir()
    (templates / "describe.jinja").write_text(
        "{# version: 2 #}\n{% for line in items %}{{ line }}\n{% endfor %}"
    )
    config = folder / "small.yaml"
    config.write_text(config.read_text().replace("templates: null", f"templates: {templates}"))
    told = trsr("store", "prune", "--config", config, "--stale-templates").stdout
    exported = folder / "all.jsonl"
    trsr("store", "export", exported, "--config", config)
    described = pl.read_ndjson(exported).filter(pl.col("template").str.contains(" describe ")).height
    assert f"would delete: {described:,} answers" in told


def test_a_forgotten_user_is_nowhere_any_more(summarized: Path, tmp_path: Path) -> None:
    folder = copy(summarized, tmp_path / "copy")
    user = pl.read_parquet(folder / "run" / "summaries.parquet")["user_id"][3]
    done = trsr("store", "forget", user, "--config", folder / "small.yaml", "--run", folder / "run")
    assert done.returncode == 0, done.stderr
    assert "histories.parquet: 1 rows" in done.stdout
    assert "summaries.parquet: 1 rows" in done.stdout
    assert f"of {user!r}" in done.stdout
    for path in (folder / "run").rglob("*.parquet"):
        frame = pl.read_parquet(path)
        assert "user_id" not in frame.columns or user not in frame["user_id"]
    exported = folder / "all.jsonl"
    trsr("store", "export", exported, "--config", folder / "small.yaml")
    assert user not in pl.read_ndjson(exported)["users"].explode()
    # The others' summaries stand: the next run prepares nothing again, and pays for nothing.
    told: list[str] = []
    run(load(folder / "small.yaml"), until="summarize", say=told.append)
    assert told[0] == "prepare: complete, skipped"
    bill = json.loads((folder / "run" / "bill.json").read_text())
    assert bill["actual"]["calls"] == 0
    assert pl.read_parquet(folder / "run" / "summaries.parquet").height == users_of(summarized) - 1
    assert (
        "doesn't know"
        in trsr("store", "forget", user, "--config", folder / "small.yaml", "--run", folder / "run").stdout
    )


def test_the_page_goes_with_the_user(summarized: Path, tmp_path: Path) -> None:
    folder = copy(summarized, tmp_path / "copy")
    page = RunFolder(folder / "run").report
    user = pl.read_parquet(folder / "run" / "summaries.parquet")["user_id"][0]
    page.write_text(f"<html>{user}</html>")
    done = trsr("store", "forget", user, "--config", folder / "small.yaml", "--run", folder / "run")
    assert "report.html: deleted" in done.stdout
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stats", "--store", "sqlite:///nowhere/answers.db"), "there is no store"),
        (("export", "answers.csv"), "must end in .jsonl or .parquet"),
        (("prune",), "give --older-than"),
        (("prune", "--stale-templates"), "needs --config"),
        (("forget", "u1", "--run", "nowhere"), "not a run folder"),
    ],
)
def test_wrong_input_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = trsr("store", *arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []
