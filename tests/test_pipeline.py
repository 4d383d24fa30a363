import contextlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import numbered_shop as shop
from small_run import one_token_words, small_config
from trsr.artifacts import RunFolder, hash_path
from trsr.config import Config, load
from trsr.config.summary import EndpointWriter
from trsr.errors import ConfigError
from trsr.experiments.protocol import EvaluationProtocol, comparison_protocol
from trsr.experiments.systems import Baselines
from trsr.experiments.variants import form, train_variant
from trsr.pipeline import STEPS, run
from trsr.prompts.templates import BUILT_IN
from trsr.ranking.ranker import Ranker
from trsr.stages.prepare import prepare
from trsr.stages.work import SKIPPED, Work

ARTIFACTS = (
    "config.yaml", "dataset/items.parquet", "dataset/histories.parquet", "dataset/candidates.parquet",
    "dataset/background.parquet", "dataset/findings.json", "summaries.parquet", "bill.json",
    "model/ranker.json", "model/training_log.json",
    "scores/recurrent.parquet", "scores/random.parquet", "scores/popularity.parquet", "scores/tfidf.parquet",
    "metrics.json", "report.html", "manifest.json", "users.sqlite", "bundle/bundle.json",
)  # fmt: skip
SCORES = ("scores/recurrent", "scores/random", "scores/popularity", "scores/tfidf")
BEFORE = tuple(step for step in STEPS[: STEPS.index("score")] if step != "caption")  # there are no images
AFTER = ("evaluate", "report")


def taken(lines: list[str]) -> list[str]:
    """Name the steps that were taken, and not skipped."""
    told = (line.partition(":")[0] for line in lines if not line.startswith(" ") and SKIPPED not in line)
    return list(told)


def skipped(lines: list[str]) -> list[str]:
    return [line.removesuffix(SKIPPED) for line in lines if line.endswith(SKIPPED)]


@pytest.fixture
def finished(small: tuple[Config, RunFolder]) -> tuple[Config, RunFolder]:
    return small


@pytest.fixture
def lines() -> list[str]:
    return []


def test_every_artifact_is_there_and_nothing_else(finished: tuple[Config, RunFolder]) -> None:
    folder = finished[1].path
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(ARTIFACTS) <= written
    folders = ("model/", "pretrained/", "bundle/")
    assert not {name for name in written if not name.startswith(folders)} - set(ARTIFACTS)
    assert not [name for name in written if name.endswith((".bin", ".pt", ".pkl", ".pickle"))]


def test_tables_have_the_promised_columns(finished: tuple[Config, RunFolder]) -> None:
    folder = finished[1]
    candidates = pl.read_parquet(folder.candidates)
    assert {"user_id", "split", "target", "candidates"} <= set(candidates.columns)
    for name in SCORES:
        scores = pl.read_parquet(folder.path / f"{name}.parquet")
        assert scores.columns == ["user_id", "split", "sampler", "item_id", "score"]
        assert scores["sampler"].unique().to_list() == ["uniform"]
    summaries = pl.read_parquet(folder.summaries)
    assert {"user_id", "summary", "block_summaries", "calls", "prompt_tokens"} <= set(summaries.columns)
    assert (summaries["summary"].str.len_chars() > 0).all()
    # Histories of up to 25 items before the target make up to 5 blocks, one call each.
    histories = pl.read_parquet(folder.histories).with_columns(
        blocks=(pl.col("history").list.len() / 5).ceil().cast(pl.Int64)
    )
    assert summaries.join(histories, on="user_id").filter(pl.col("calls") != pl.col("blocks")).is_empty()


def test_scores_are_probabilities_of_every_frozen_candidate(finished: tuple[Config, RunFolder]) -> None:
    folder = finished[1]
    scores = pl.read_parquet(folder.scores / "recurrent.parquet")
    assert scores["score"].is_between(0, 1).all()
    frozen = (
        pl.read_parquet(folder.candidates)
        .filter(pl.col("split") != "train")
        .select("user_id", pl.col("candidates").alias("item_id"))
        .explode("item_id")
    )
    assert frozen.height == scores.height
    assert frozen.join(scores, on=["user_id", "item_id"], how="anti").is_empty()


def test_metrics_name_system_split_interval_users_and_sampler(finished: tuple[Config, RunFolder]) -> None:
    metrics = json.loads(finished[1].metrics.read_text())
    assert metrics["sampler"] == "uniform"
    assert set(metrics["systems"]) == {"recurrent", "random", "popularity", "tfidf"}
    for by_split in metrics["systems"].values():
        assert set(by_split) == {"valid", "test"}
        for result in by_split.values():
            assert result["users"] > 0
            assert len(result["metrics"]) == 10
            assert all(m["low"] <= m["mean"] <= m["high"] for m in result["metrics"].values())


def test_the_resolved_configuration_makes_the_same_run(finished: tuple[Config, RunFolder]) -> None:
    config, folder = finished
    assert load(folder.config) == config
    assert "# Python" in folder.config.read_text()
    assert yaml.safe_load(folder.config.read_text())["seed"] == 0


def test_a_second_run_skips_every_step(
    finished: tuple[Config, RunFolder], tmp_path: Path, lines: list[str]
) -> None:
    shutil.copytree(finished[1].path, tmp_path / "run")
    config, folder = small_config(tmp_path / "run"), RunFolder(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")}
    run(config, say=lines.append)
    assert skipped(lines) == [*BEFORE, *SCORES, *AFTER]
    assert taken(lines) == []
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.parquet")} == before


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"evaluation__report_users": 2}, ["report"]),
        ({"evaluation__ks": [3]}, ["evaluate", "report"]),
        ({"evaluation__baselines": ["random", "bm25"]}, ["scores/bm25", "evaluate", "report"]),
        # Users to learn the weights from are asked candidates of both samplers.
        ({"fusion__companions": ["tfidf"]}, [*SCORES, "evaluate", "report"]),
        ({"training__learning_rate": 1e-4}, ["train", "scores/recurrent", "evaluate", "report"]),
        (
            {"summary__paradigm": "hierarchical"},
            ["summarize", "train", "scores/hierarchical", "evaluate", "report"],
        ),
        ({"candidates__sampler": "popularity"}, [*BEFORE, *SCORES, "evaluate", "report"]),
    ],
)
def test_a_changed_setting_reruns_its_step_and_what_reads_it(
    finished: tuple[Config, RunFolder],
    tmp_path: Path,
    lines: list[str],
    changes: dict[str, object],
    anew: list[str],
) -> None:
    shutil.copytree(finished[1].path, tmp_path / "run")
    folder = run(small_config(tmp_path / "run", **changes), say=lines.append)
    assert taken(lines) == anew
    measured = json.loads(folder.metrics.read_text(encoding="utf-8"))["systems"]
    scored = {path.name.partition(".")[0] for path in folder.scores.iterdir()}
    assert scored == set(measured), "no scores of another model stay"


def test_a_changed_template_reruns_what_was_made_with_it(
    finished: tuple[Config, RunFolder], tmp_path: Path, lines: list[str]
) -> None:
    shutil.copytree(finished[1].path, tmp_path / "run")
    own = tmp_path / "templates"
    own.mkdir()
    config = small_config(tmp_path / "run", prompt__templates=str(own))
    run(config, until="pretrain", say=lines.append)
    assert taken(lines) == []
    (own / "update.jinja").write_text((BUILT_IN / "update.jinja").read_text() + "Be brief.")
    lines.clear()
    run(config, until="pretrain", say=lines.append)
    assert taken(lines) == ["summarize"]
    name = "rank_compact_suffix.jinja"
    (own / name).write_text((BUILT_IN / name).read_text().replace("?", "Next?"))
    lines.clear()
    run(config, until="train", say=lines.append)
    assert taken(lines) == ["pretrain", "train"]


def test_a_run_reads_each_table_once_and_loads_its_ranker_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In large runs, reading and loading again and again takes longer than what is done with it."""
    read: list[str] = []
    loaded: list[str] = []
    read_parquet, load_ranker = pl.read_parquet, Ranker.load
    monkeypatch.setattr(pl, "read_parquet", lambda path, **k: read.append(path) or read_parquet(path, **k))
    monkeypatch.setattr(Ranker, "load", lambda path, *a: loaded.append(path) or load_ranker(path, *a))
    folder = run(
        small_config(tmp_path / "run", fusion__companions=["popularity"], data__users=150), say=lambda line: 0
    )
    assert {folder.items, folder.histories, folder.candidates, folder.summaries} <= set(read)
    assert [path for path in set(read) if read.count(path) > 1] == []
    assert loaded.count(folder.model) == 1
    read.clear()
    loaded.clear()
    run(load(folder.config), say=lambda line: 0)
    assert [path for path in set(read) if read.count(path) > 1] == []
    assert loaded == []


def test_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="prepare, caption, summarize, pretrain, train, score, fuse, evaluate, report"
    ):
        run(small_config(tmp_path), until="trian")


def test_two_runs_of_one_seed_end_in_the_same_scores(
    finished: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    again = run(small_config(tmp_path / "again"), until="evaluate", say=lambda line: None)
    for name in (
        "summaries.parquet",
        "dataset/candidates.parquet",
        "metrics.json",
        "scores/recurrent.parquet",
    ):
        assert (again.path / name).read_bytes() == (finished[1].path / name).read_bytes(), name


def test_without_summaries_the_run_goes_through(tmp_path: Path) -> None:
    config = small_config(tmp_path / "none", summary__paradigm="none", training__epochs=1)
    folder = run(config, say=lambda line: None)
    assert set(pl.read_parquet(folder.summaries)["summary"]) == {""}
    assert "no-summary" in folder.report.read_text()


MADE = (
    "items", "histories", "candidates", "background", "summaries", "pretrained", "model", "scores", "fusion",
    "metrics",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run up to its figures, with the settings that made it."""
    place = tmp_path_factory.mktemp("changed")
    config = _of_shop(place / "run", shop.write_shop(place))
    run(config, until="evaluate", say=lambda line: None)
    return config


def _of_shop(out: Path, data: Mapping[str, Any]) -> Config:
    settings = {"training__epochs": 1, "fusion__companions": ["popularity"]}
    return small_config(out, **settings, **{name.replace(".", "__"): value for name, value in data.items()})


@contextlib.contextmanager
def _changed(path: Path, change: Callable[[str], str]) -> Iterator[None]:
    """Change a file's content while the block runs; size and time of the file stay."""
    before, text = path.stat(), path.read_text(encoding="utf-8")
    after = change(text)
    assert after != text
    assert len(after) == len(text)
    try:
        path.write_text(after, encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_word(items: str) -> str:
    """Change one word of one shared item."""
    line = next(line for line in items.split("\n") if line.startswith("n") and " tea" in line)
    return items.replace(line, line.replace(" tea", " tin"))


def _other_item(events: str) -> str:
    """Let a training user take another item at one time."""
    lines = events.split("\n")
    user = shop.user_id(3)
    taken = {line.split(",")[1] for line in lines if line.startswith(f"{user},")}
    new = next(item for item in map(shop.numbered, range(shop.SHARED)) if item not in taken)
    at = next(place for place, line in enumerate(lines) if line.startswith(f"{user},n0"))
    _, item, _ = lines[at].split(",")
    lines[at] = lines[at].replace(item, new)
    return "\n".join(lines)


def _digests(folder: RunFolder) -> dict[str, str]:
    paths = {name: getattr(folder, name) for name in MADE}
    # The adapter's card names the folder of its base model.
    paths["model"] = folder.model / "adapter_model.safetensors"
    return {name: hash_path(path) for name, path in paths.items()}


@pytest.mark.parametrize(
    ("file", "change"), [("items.csv", _other_word), ("events.csv", _other_item)], ids=["text", "event"]
)
def test_changed_data_makes_every_later_stage_run_again(
    made: Config, tmp_path: Path, file: str, change: Callable[[str], str]
) -> None:
    shutil.copytree(made.folder, tmp_path / "again")
    again, anew = (made.model_copy(update={"out": tmp_path / name}) for name in ("again", "anew"))
    before = _digests(RunFolder(made.folder))
    asked = _known_by(again)
    lines: list[str] = []
    with _changed(made.folder.parent / file, change):
        run(again, until="evaluate", say=lines.append)
        run(anew, until="evaluate", say=lambda line: None)
        assert not set(asked) & set(_known_by(again))
    assert taken(lines) == [*BEFORE, *SCORES, "scores/fused", "evaluate"]
    assert skipped(lines) == []
    after = _digests(RunFolder(again.folder))
    assert after == _digests(RunFolder(anew.folder))
    assert {"summaries", "pretrained", "model", "scores", "fusion"} <= {
        name for name in MADE if after[name] != before[name]
    }


def _known_by(config: Config) -> list[str]:
    """Say by what a comparison knows the scores of its systems again."""
    work = Work(config, RunFolder(config.folder), lambda line: None)
    prepared = prepare(work)
    protocol: EvaluationProtocol = comparison_protocol(work, prepared)
    compared = Work(config, RunFolder(config.folder / "comparison"), lambda line: None)
    model = train_variant(compared, prepared, form(config, "recurrent"), 0)
    baseline = Baselines(compared, protocol, kept=()).scores("popularity/seed-0", "popularity", 0, 5)
    return [model.digest, protocol.digest, baseline.entry.fingerprint]


def test_data_that_was_only_written_anew_makes_nothing_run_again(made: Config) -> None:
    events = made.folder.parent / "events.csv"
    os.utime(events, (1, 1))
    lines: list[str] = []
    run(made, until="evaluate", say=lines.append)
    assert skipped(lines) == [*BEFORE, *SCORES, "scores/fused", "evaluate"]
    assert taken(lines) == []


@pytest.fixture
def writer_settings(tiny_model_dir: Path, served_model: EndpointWriter) -> Callable[[str], dict[str, object]]:
    def settings(kind: str) -> dict[str, object]:
        if kind == "local":
            return {"kind": "local", "model": str(tiny_model_dir)}
        return served_model.model_dump(mode="json")

    return settings


def numbers(line: str) -> list[int]:
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", line)]


@pytest.mark.parametrize("paradigm", ["recurrent", "hierarchical"])
@pytest.mark.parametrize("kind", ["local", "endpoint"])
def test_language_models_write_and_are_asked_once(
    tmp_path: Path,
    writer_settings: Callable[[str], dict[str, object]],
    kind: str,
    paradigm: str,
    lines: list[str],
) -> None:
    # A model of random weights writes what every check would refuse.
    changes = {
        "data__users": 12, "split__by": "time", "summary__writer": writer_settings(kind),
        "summary__paradigm": paradigm, "summary__checks": [],
    }  # fmt: skip
    first = run(small_config(tmp_path / "first", **changes), until="summarize", say=lines.append)
    summaries = pl.read_parquet(first.summaries)
    assert (summaries["summary"].str.len_chars() > 0).all()
    assert (summaries["completion_tokens"] > 0).all()
    # Users may share a block, so that fewer calls are made than summaries need; none is made twice.
    with contextlib.closing(sqlite3.connect(tmp_path / "answers.db")) as store:
        [[stored]] = store.execute("SELECT count(*) FROM answers").fetchall()
    made, reused = numbers(next(line for line in lines if "calls made" in line))[:2]
    assert made == stored
    assert made + reused == summaries["calls"].sum()
    # Another run folder beside the first shares its store: everything is there, nothing is asked again.
    second = run(small_config(tmp_path / "second", **changes), until="summarize", say=lines.append)
    assert numbers([line for line in lines if "calls made" in line][-1])[:2] == [0, made + reused]
    assert pl.read_parquet(second.summaries).equals(summaries)


def test_a_whole_run_with_summaries_of_a_server(
    tmp_path: Path, writer_settings: Callable[[str], dict[str, object]]
) -> None:
    changes = {
        "data__users": 12, "split__by": "time", "summary__writer": writer_settings("endpoint"),
        "training__epochs": 1, "summary__checks": [],
    }  # fmt: skip
    folder = run(small_config(tmp_path / "served", **changes), say=lambda line: None)
    assert folder.report.stat().st_size > 10_000
    assert "endpoint" in folder.report.read_text()


def test_a_hugging_face_model_is_tuned_with_adapters_alone(tmp_path: Path, tiny_model_dir: Path) -> None:
    model = {"kind": "huggingface", "path": str(tiny_model_dir)}
    answers = one_token_words(tiny_model_dir)
    config = small_config(
        tmp_path / "tuned", model=model, training__epochs=1, prompt__answers=answers, prompt__max_tokens=512
    )
    folder = run(config, until="evaluate", say=lambda line: None)
    assert (folder.model / "adapter_model.safetensors").exists()
    assert not (folder.model / "model.safetensors").exists(), "the base model is named, not copied"
    assert pl.read_parquet(folder.scores / "recurrent.parquet")["score"].n_unique() > 1
