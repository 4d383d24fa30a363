import json
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from small_run import MadeOnce, one_token_words, small_config
from trsr.artifacts import locked
from trsr.config import Config, load
from trsr.errors import ArtifactError, ConfigError
from trsr.experiments import study as module
from trsr.experiments.arms import arms, partners
from trsr.experiments.study import Studied, Study, study
from trsr.records import HISTORY, SPLIT, SUMMARY, USER

SETTINGS: dict[str, Any] = {
    "history": {"min": 9, "max": 20},
    "split": {"valid": 0.2, "test": 0.3},
    "training__method": "full",
    "training__epochs": 1,
    "model__pretrain_questions": 16,
    "model__pretrain_epochs": 0,
    "summary__paradigm": "hierarchical",
    "study": {"arms": ["b", "d", "f", "g"], "recent_items": [3], "budget": 110, "seeds": [0]},
    "evaluation__report_users": 2,
}


def settings(out: Path, **changed: Any) -> Config:
    return small_config(out, **(SETTINGS | changed))


@dataclass(frozen=True)
class Done:
    folder: Path
    said: list[list[str]]

    def figures(self) -> Any:
        return json.loads((self.folder / "study.json").read_text(encoding="utf-8"))

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / "shared" / name)


@pytest.fixture(scope="module")
def done(made_once: MadeOnce) -> Done:
    """A study in two calls: one arm alone, then all that is left and the page."""

    def make(run: Path) -> None:
        said: list[list[str]] = [[], []]
        assert study(settings(run), only=["d"], seeds=[0], say=said[0].append) is None
        assert not (run / "study" / "study.html").exists()
        written = study(settings(run), users=False, say=said[1].append)
        assert written == Studied(*(run / "study" / f"study.{end}" for end in ("json", "md", "html")))
        run.with_name("said.json").write_text(json.dumps(said), encoding="utf-8")

    run = made_once("study", make)
    return Done(run / "study", json.loads(run.with_name("said.json").read_text(encoding="utf-8")))


def test_the_page_says_in_its_first_sentence_whether_the_claim_stands(done: Done) -> None:
    page = (done.folder / "study.html").read_text(encoding="utf-8")
    assert "<h1>The claim does not stand: with recent items, the own summary is not told apart from" in page
    assert page.index("<h1>") < page.index("<table")
    plan = json.loads((done.folder / "preregistration.json").read_text(encoding="utf-8"))
    assert plan["hash"] in page
    assert "A summary and 3 recent items rank better than recent items until the budget is full" in page
    histories = pl.read_parquet(done.folder.parent / "dataset" / "histories.parquet")
    assert not any(user in page for user in histories[USER])


def test_what_one_call_filled_is_not_made_again(done: Done) -> None:
    first, second = done.said
    assert any(line.startswith("    train:") for line in first)
    [own] = [line for line in second if "d-3-keyphrase, seed 0" in line]
    assert own.endswith("complete, skipped")
    assert sum("train:" in line for line in second) == 3
    assert not any("pretrain:" in line for line in second)


def test_everything_is_written_down_before_anything_is_scored(done: Done, tmp_path: Path) -> None:
    figures = done.figures()
    assert figures["registered"]["written_at"] <= figures["scored_at"]
    assert figures["registered"]["plan"]["contrasts"] == [
        ["d-3-keyphrase", "b"],
        ["d-3-keyphrase", "f-3-keyphrase"],
    ]
    run = tmp_path / "run"
    shutil.copytree(done.folder.parent, run)
    with pytest.raises(ConfigError, match="; settings changed since: a study isn't changed"):
        study(settings(run, training__epochs=2), say=lambda line: None)
    (run / "study" / "preregistration.json").unlink()
    with pytest.raises(ArtifactError, match="is missing, and cells are scored already"):
        study(settings(run), say=lambda line: None)


def test_the_placebo_is_anothers_summary_in_every_part_of_the_split(done: Done) -> None:
    own, given = done.table("keyphrase/summaries.parquet"), done.table("keyphrase/another-0.parquet")
    histories = pl.read_parquet(done.folder.parent / "dataset" / "histories.parquet")
    both = histories.join(own, on=USER).join(given, on=USER, suffix="_given")
    assert sorted(both[SUMMARY]) == sorted(both[f"{SUMMARY}_given"])
    assert (both[SUMMARY] != both[f"{SUMMARY}_given"]).sum() > 0.9 * both.height
    lengths = dict(both.select(SUMMARY, pl.col(HISTORY).list.len()).iter_rows())
    apart = [abs(lengths[row[f"{SUMMARY}_given"]] - len(row[HISTORY])) for row in both.iter_rows(named=True)]
    assert sum(apart) / len(apart) < 2
    assert both[SPLIT].n_unique() == 3


def test_a_summary_of_the_recent_items_reads_nothing_else(done: Done) -> None:
    shown = done.table("keyphrase-newest-3/newest-3.parquet")
    histories = pl.read_parquet(done.folder.parent / "dataset" / "histories.parquet")
    assert shown[HISTORY].to_list() == [row[-3:] for row in histories[HISTORY].to_list()]
    written = done.table("keyphrase-newest-3/summaries.parquet")
    assert written["block_summaries"].list.len().max() == 1


def test_all_arms_keep_to_the_budget_and_tell_what_they_took(done: Done) -> None:
    told = {arm["name"]: arm for arm in done.figures()["arms"]}
    assert set(told) == {"b", "d-3-keyphrase", "f-3-keyphrase", "g-3-keyphrase"}
    for arm in told.values():
        assert 20 < arm["prefix_tokens"] <= 110
        assert (arm["calls"], arm["written_tokens"], arm["money"]) == (0, 0, 0)
        assert arm["ranking_ms"] > 0
    assert told["b"]["items"] > told["d-3-keyphrase"]["items"] == 3
    assert told["b"]["writing_ms"] == 0 < told["d-3-keyphrase"]["writing_ms"]


def test_cells_that_another_process_has_are_waited_for(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tried = tmp_path / "run", []
    shutil.copytree(done.folder.parent, run)

    @contextmanager
    def held_by_another(path: Path, *, wait: bool = True) -> Any:
        tried.append((path.name, wait))
        with locked(path, wait=wait) as free:
            yield free and (wait or path.name != "b-seed-0")

    monkeypatch.setattr(module, "locked", held_by_another)
    opened = Study(settings(run), lambda line: None)
    found = opened.fill([(arm, 0) for arm in opened.arms])
    assert len(found) == 4
    assert [one for one in tried if one[0] == "b-seed-0"] == [("b-seed-0", False), ("b-seed-0", True)]
    assert ("f-3-keyphrase-seed-0", True) not in tried


def test_a_lock_is_one_holders(tmp_path: Path) -> None:
    with locked(tmp_path / "name") as first, locked(tmp_path / "name", wait=False) as second:
        assert (first, second) == (True, False)
    with locked(tmp_path / "name", wait=False) as free:
        assert free


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"only": ["d", "h"]}, "--only must name arms among b, d, f, g, or summaries, got 'h'"),
        ({"only": []}, "got ''"),
        ({"seeds": [7]}, "--seeds must be among study.seeds .0., got 7"),
    ],
)
def test_unknown_arms_and_seeds_are_refused(asked: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        study(settings(tmp_path / "run"), **asked)
    assert list(tmp_path.iterdir()) == []


def test_summaries_alone_are_written_without_training(tmp_path: Path) -> None:
    said: list[str] = []
    assert study(settings(tmp_path / "run"), only=["summaries"], say=said.append) is None
    shared = tmp_path / "run" / "study" / "shared"
    written = sorted(str(path.relative_to(shared)) for path in shared.rglob("*summaries.parquet"))
    assert written == [f"{name}/summaries.parquet" for name in ("keyphrase-newest-3", "keyphrase", "none")]
    assert not any("train:" in line for line in said)


def test_any_model_may_rank(tmp_path: Path, tiny_model_dir: Path) -> None:
    own = {key: value for key, value in SETTINGS.items() if not key.startswith("model__")}
    model = {"kind": "huggingface", "path": str(tiny_model_dir)}
    changed = {
        "model": model,
        "study": own["study"] | {"budget": 700},
        "training__max_users": 4,
        "prompt__answers": one_token_words(tiny_model_dir),
    }
    config = small_config(tmp_path / "run", **(own | changed))
    study(config, only=["d"], say=lambda line: None)
    folder = tmp_path / "run" / "study"
    assert (folder / "scores" / "d-3-keyphrase" / "seed-0.parquet").exists()
    tokens = json.loads((folder / "tokens" / "d-3-keyphrase" / "seed-0.json").read_text(encoding="utf-8"))
    assert tokens["items"] == 3


def test_arms_differ_in_what_they_are_told_alone(tmp_path: Path) -> None:
    table = {"kind": "table", "path": str(tmp_path / "texts.csv")}
    config = load(overrides={"study.writers": [table], "study.recent_items": [5, 3], "history.max": 31})
    made = {arm.name: arm.variant.overrides for arm in arms(config)}
    assert list(made)[:3] == ["a-5", "a-3", "b"]
    assert {name for name in made if name[0] == "g"} == {"g-5-keyphrase", "g-3-keyphrase"}
    assert made["b"] == {
        "prompt.max_tokens": 256,
        "prompt.recent_items": 30,
        "summary.paradigm": "none",
    }
    assert made["c"] == made["b"] | {"prompt.max_tokens": 8192}
    assert made["e-table"]["prompt.recent_items"] == 0
    assert made["f-3-table"] == made["d-3-table"]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("silent", [0, 1, 2])
def test_nobody_is_the_own_partner(count: int, silent: int) -> None:
    texts = [""] * min(silent, count) + ["text"] * max(count - silent, 0)
    made = partners(["test"] * count, list(range(count)), texts, seed=1)
    assert sorted(made) == list(range(count))
    assert all(own != other for own, other in enumerate(made))


def test_partners_stay_in_their_part_and_change_with_the_seed() -> None:
    splits = ["train"] * 6 + ["test"] * 4
    made: Callable[[int], list[int]] = lambda seed: partners(splits, [5] * 10, ["text"] * 10, seed)  # noqa: E731
    assert all((own < 6) == (other < 6) for own, other in enumerate(made(0)))
    assert made(0) != made(1)
    assert made(0) == made(0)
