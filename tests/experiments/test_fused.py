import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from small_run import FUSED, small_config
from trsr.artifacts import Entry, RunFolder
from trsr.baselines.simple import Popularity
from trsr.config import Config
from trsr.data.prepare import Prepared, load
from trsr.experiments import systems as systems_module
from trsr.experiments.fused import fuse, in_catalogue
from trsr.experiments.protocol import EvaluationProtocol, SplitData, run_protocol
from trsr.experiments.report import report
from trsr.experiments.scores import ScoreInfo, SeedScores, SystemScores, evaluate
from trsr.experiments.systems import Baselines, LanguageModel
from trsr.fusion.fusion import Fusion
from trsr.pipeline import run
from trsr.registry import path_name
from trsr.report.results import Kind
from trsr.stages.prepare import prepare
from trsr.stages.summarize import summarize
from trsr.stages.train import pretrain, train
from trsr.stages.work import SKIPPED, Artifact, Work

COMPANIONS = FUSED["fusion__companions"]
HELD = pl.col("split") != "train"


def config_of(folder: Path, **changes: object) -> Config:
    return small_config(folder, **FUSED | changes)


@pytest.fixture
def fused(fused_run: tuple[Config, RunFolder]) -> tuple[Config, RunFolder]:
    return fused_run


@pytest.fixture
def copied(fused: tuple[Config, RunFolder], tmp_path: Path) -> RunFolder:
    shutil.copytree(fused[1].path, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def again(copied: RunFolder, **changes: object) -> list[str]:
    """Take the run up once more; give what it says, but for the steps that are complete."""
    lines: list[str] = []
    run(config_of(copied.path, **changes), until="evaluate", say=lines.append)
    return [line for line in lines if not line.endswith(SKIPPED)]


def steps(lines: list[str]) -> list[str]:
    return [line.partition(":")[0] for line in lines if not line.startswith(" ")]


def of_test(prepared: Prepared, changed: pl.Expr) -> Prepared:
    """Change the targets of some users; nothing else."""
    frames = {
        name: getattr(prepared, name).with_columns(changed.alias("target"))
        for name in ("histories", "candidates")
    }
    assert not frames["histories"].equals(prepared.histories)
    return replace(prepared, **frames)


def asked(work: Work, prepared: Prepared) -> tuple[EvaluationProtocol, SystemScores]:
    """Ask a language model that gives every user and item a number, whatever the targets are."""
    made = Artifact(work.folder, Entry("", {work.folder.path.name: ""}, 0, ""), lambda _: prepared)
    protocol = run_protocol(work.config, made)
    told = np.random.default_rng(0).random((prepared.histories.height, prepared.items.height))
    place = {user: row for row, user in enumerate(prepared.histories["user_id"].sort())}
    scores = {
        split: {
            sampler: told[[[place[user]] for user in data.users], rows]
            for sampler, rows in data.candidates.items()
        }
        for split, data in protocol.splits.items()
    }
    form = SystemScores("recurrent", Kind.LANGUAGE_MODEL, (0,), (SeedScores(scores, {}, ScoreInfo()),))
    return protocol, form


def fuse_in(path: Path, prepared: Prepared, companions: list[str]) -> tuple[RunFolder, pl.DataFrame]:
    work = Work(config_of(path, fusion__companions=companions), RunFolder(path), lambda line: None)
    protocol, form = asked(work, prepared)
    fuse(work, protocol, [form], Baselines(work, protocol, kept=()))
    return work.folder, pl.read_parquet(work.folder.scores / "fused.parquet")


def test_every_candidate_of_both_splits_gets_a_probability(fused: tuple[Config, RunFolder]) -> None:
    folder = fused[1]
    scores = pl.read_parquet(folder.scores / "fused.parquet")
    frozen = pl.read_parquet(folder.candidates).filter(HELD)
    pairs = frozen.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    own = scores.filter(sampler="uniform")
    assert own.height == pairs.height
    assert pairs.join(own, on=["user_id", "item_id"], how="anti").is_empty()
    # Weights are learnt from the validation users' candidates of the other sampler too.
    other = scores.filter(sampler="popularity")
    assert other["split"].unique().to_list() == ["valid"]
    assert other.height == own.filter(split="valid").height
    assert scores["score"].is_between(0, 1, closed="none").all()


def test_places_in_the_catalogue_are_those_of_lists_and_of_what_is_behind_them() -> None:
    histories = (np.array([1, 2], np.int32), np.array([7], np.int32), np.array([3], np.int32))
    targets = np.array([5, 9, 3], np.int32)
    data = SplitData(("a", "b", "c"), histories, targets, {}, {})
    places = np.array([[1, 4, 5, 6], [1, 2, 3, 4], [8, 3, 6, 4]], np.int32)
    scores = np.array([[0.9, 0.8, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    found = in_catalogue(places, scores, data, n_items=10)
    # a: the repeat goes, one above, one level; b: missed, 4 above, the 4 others level; c: a repeat itself.
    assert found.ranks.above.tolist() == [1, 4, 2]
    assert found.ranks.tied.tolist() == [1, 4, 0]
    assert found.ranks.others.tolist() == [7, 8, 9]
    # Nothing goes from a list as it is recommended, and all items but the target are others.
    assert found.recommended is not None
    assert found.recommended.above.tolist() == [2, 4, 2]
    assert found.recommended.tied.tolist() == [1, 5, 0]
    assert found.recommended.others.tolist() == [9, 9, 9]
    assert found.retrieved.tolist() == [[4, 5, 6], [1, 2, 3], [4, 6, 8]]


def test_the_catalogue_is_measured_under_names_of_its_own(fused: tuple[Config, RunFolder]) -> None:
    folder = fused[1]
    systems = json.loads(folder.metrics.read_text())["systems"]
    plain = set(systems["recurrent"]["test"]["metrics"])
    assert not any("(" in name for name in plain)
    for split in ("valid", "test"):
        whole = {f"{name} (catalogue)" for name in plain}
        listed = {f"{name} (recommended)" for name in plain - {"AUC"}}
        assert set(systems["fused"][split]["metrics"]) == plain | whole | listed
        assert set(systems["itemknn"][split]["metrics"]) == plain | whole
    ranks = pl.read_parquet(folder.scores / "fused.catalogue.parquet").filter(split="test")
    hits = (ranks["recommended_above"] < 10).mean()
    told = systems["fused"]["test"]["metrics"]["Recall@10 (recommended)"]["mean"]
    assert told == pytest.approx(hits, abs=1e-9)
    card = json.loads((folder.fusion / "catalogue.json").read_text())
    assert {"language_model", "in the history", "cold item"} < set(card["weights"])


def test_weights_can_be_read_and_networks_are_kept(fused: tuple[Config, RunFolder]) -> None:
    folder = fused[1].fusion
    card = json.loads((folder / "fusion.json").read_text())
    assert card["systems"] == ["language_model", *COMPANIONS]
    assert {"language_model", "tfidf, cold item", "popularity, drawn by it"} < set(card["weights"])
    assert (folder / "sasrec_text" / "model.safetensors").exists()
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".npz"))]


def test_the_fused_ranker_stands_in_the_metrics_above_the_language_model(
    fused: tuple[Config, RunFolder],
) -> None:
    systems = json.loads(fused[1].metrics.read_text())["systems"]
    ndcg = {name: by_split["test"]["metrics"]["NDCG@10"]["mean"] for name, by_split in systems.items()}
    assert ndcg["fused"] > ndcg["recurrent"]
    assert set(COMPANIONS) < set(ndcg)


def test_targets_of_the_test_change_no_score_and_no_weight(
    fused: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    prepared = load(fused[1])
    tested = pl.col("split") == "test"
    shuffled = pl.when(tested).then(pl.col("target").sample(fraction=1.0, shuffle=True, seed=1))
    changed = of_test(prepared, shuffled.otherwise("target"))
    (one, before), (two, after) = (
        fuse_in(tmp_path / name, told, COMPANIONS) for name, told in (("one", prepared), ("two", changed))
    )
    for name in ("fusion.json", "sasrec_text/model.safetensors"):
        assert (one.fusion / name).read_bytes() == (two.fusion / name).read_bytes()
    assert before.equals(after)


def test_a_validation_user_is_scored_by_weights_that_never_saw_the_user(
    fused: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    prepared = load(fused[1])
    user, offered, target = (
        prepared.candidates.filter(pl.col("split") == "valid")
        .select("user_id", "candidates", "target")
        .row(0)
    )
    other = next(item for item in offered if item != target)
    mine = pl.col("user_id") == user
    changed = of_test(prepared, pl.when(mine).then(pl.lit(other)).otherwise("target"))
    (one, before), (two, after) = (
        fuse_in(tmp_path / name, told, ["itemknn", "tfidf", "popularity"])
        for name, told in (("one", prepared), ("two", changed))
    )
    # The other list of this user holds the new target; the frozen one is the same.
    frozen = mine & (pl.col("sampler") == "uniform")
    assert before.filter(frozen).equals(after.filter(frozen))
    weights = [Fusion.load(folder.fusion / "fusion.json").weights for folder in (one, two)]
    assert weights[0] != weights[1]


def test_without_companions_nothing_of_an_older_fusion_stays(copied: RunFolder) -> None:
    assert "  fusion.companions is empty: no fused ranker" in again(copied, fusion__companions=[])
    left = {path.stem for path in copied.scores.iterdir()}
    assert left == {"recurrent", "random", "popularity", "tfidf"}
    assert not copied.fusion.exists()
    assert "fused" not in json.loads(copied.metrics.read_text())["systems"]


@pytest.mark.parametrize("count", [1, 2, 12, 13])
def test_few_validation_users_cost_the_fused_ranker_at_most(count: int, copied: RunFolder) -> None:
    lines: list[str] = []
    work = Work(config_of(copied.path, fusion__companions=["tfidf"]), copied, lines.append)
    whole = prepare(work)
    summaries = summarize(work, whole)
    valid = whole.value.candidates.filter(pl.col("split") == "valid")["user_id"]
    fewer = ~pl.col("user_id").is_in(valid[count:].to_list())
    frames = {name: getattr(whole.value, name).filter(fewer) for name in ("histories", "candidates")}
    protocol, form = asked(work, replace(whole.value, **frames))
    systems = [form, *fuse(work, protocol, [form], Baselines(work, protocol, kept=()))]
    metrics = evaluate(work, protocol, systems)
    few = f"  {count} validation users are too few to learn from (13 at least; "
    assert any(line.startswith(few) for line in lines) == (count < 13)
    assert [system.name for system in systems[1:]] == (["fused", "tfidf"] if count >= 13 else [])
    assert metrics.value["systems"]["recurrent"]["valid"]["users"] == count
    start = pretrain(work, whole)
    model = LanguageModel(work.config, summaries, start, train(work, whole, summaries, start))
    report(work, protocol, model, systems)
    assert copied.report.stat().st_size > 10_000


def test_the_smallest_run_ends_with_a_page(tmp_path: Path) -> None:
    lines: list[str] = []
    split = {"valid": 0.4, "test": 0.3}
    config = config_of(tmp_path / "few", data__users=10, split=split, history__min=4)
    folder = run(config, say=lines.append)
    assert any("validation users are too few" in line for line in lines)
    assert "fused" not in json.loads(folder.metrics.read_text())["systems"]
    assert folder.report.exists()


def test_a_fused_ranker_that_fails_is_left_out_and_tried_again(copied: RunFolder) -> None:
    # A companion that can't be had, which is found out after everything was trained and scored.
    lines = again(copied, fusion__companions=["embeddings"])
    [told] = [line for line in lines if line.startswith("  left out: ")]
    assert "`embeddings` needs a model" in told
    assert "scores/recurrent" not in steps(lines)
    assert "fused" not in json.loads(copied.metrics.read_text())["systems"]
    assert not (copied.scores / "fused.parquet").exists()
    assert not copied.fusion.exists()
    again(copied, fusion__companions=["tfidf"])
    assert "fused" in json.loads(copied.metrics.read_text())["systems"]


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"evaluation__batch_tokens": 4096}, []),
        ({"fusion__companions": ["tfidf"]}, ["scores/fused", "evaluate"]),
        ({"evaluation__baselines": ["random"]}, ["evaluate"]),
        ({"evaluation__ks": [3]}, ["evaluate"]),
        ({"comparison__embedding_model": "model"}, []),
    ],
)
def test_a_setting_reruns_the_steps_that_depend_on_it(
    copied: RunFolder, changes: dict[str, Any], anew: list[str]
) -> None:
    assert steps(again(copied, **changes)) == anew


def test_another_embedding_model_makes_its_companion_and_the_fused_ranker_anew(
    copied: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems_module, "open_baseline", lambda name, seed: Popularity(seed=seed))
    monkeypatch.setattr("trsr.fusion.companions.Companions.save", lambda self, folder: folder.mkdir())
    changes: dict[str, Any] = {"fusion__companions": ["embeddings(model='one')"]}
    one, two = (f"scores/{path_name(f'embeddings(model={name!r})')}" for name in ("one", "two"))
    anew = [one, "scores/fused", "evaluate"]
    assert steps(again(copied, **changes)) == anew
    assert steps(again(copied, **changes)) == []
    # Its scores are equal here, and so are those of the fused ranker: what follows is not made again.
    changes = {"fusion__companions": ["embeddings(model='two')"]}
    assert steps(again(copied, **changes))[0] == two
