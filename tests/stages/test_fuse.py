import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from small_run import FUSED, small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.fusion.fusion import Fusion
from trsr.pipeline import STAGES, run
from trsr.stages import evaluate, fuse, report

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
    lines: list[str] = []
    fuse.STAGE.run(config_of(copied.path, **changes), copied, lines.append)
    return lines


def test_every_candidate_of_both_splits_gets_a_probability(fused: tuple[Config, RunFolder]) -> None:
    folder = fused[1]
    scores = pl.read_parquet(folder.fused)
    frozen = pl.read_parquet(folder.candidates).filter(HELD)
    pairs = frozen.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    assert scores.height == pairs.height
    assert pairs.join(scores, on=["user_id", "item_id"], how="anti").is_empty()
    assert scores["score"].is_between(0, 1, closed="none").all()


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
    assert ndcg["TRSR fused"] > ndcg["TRSR recurrent (compact)"]


def test_targets_of_the_test_change_no_score_and_no_weight(
    fused: tuple[Config, RunFolder], copied: RunFolder
) -> None:
    for path in (copied.histories, copied.candidates):
        frame = pl.read_parquet(path)
        tested = pl.col("split") == "test"
        moved = frame.with_columns(
            pl.when(tested)
            .then(pl.col("target").sample(fraction=1.0, shuffle=True, seed=1))
            .otherwise("target")
        )
        assert not moved.equals(frame)
        moved.write_parquet(path)
    again(copied)
    for name in ("fusion.json", "sasrec_text/model.safetensors"):
        assert (copied.fusion / name).read_bytes() == (fused[1].fusion / name).read_bytes()
    assert pl.read_parquet(copied.fused).equals(pl.read_parquet(fused[1].fused))


def test_a_validation_user_is_scored_by_weights_that_never_saw_the_user(
    fused: tuple[Config, RunFolder], copied: RunFolder
) -> None:
    candidates = pl.read_parquet(copied.candidates)
    user, offered, target = (
        candidates.filter(pl.col("split") == "valid").select("user_id", "candidates", "target").row(0)
    )
    other = next(item for item in offered if item != target)
    for path in (copied.histories, copied.candidates):
        frame = pl.read_parquet(path)
        mine = pl.col("user_id") == user
        frame.with_columns(
            pl.when(mine).then(pl.lit(other)).otherwise("target").alias("target")
        ).write_parquet(path)
    # The other list of this user holds the new target; the frozen one is the same.
    again(copied, fusion__companions=["itemknn", "tfidf", "popularity"])
    before = Path(str(copied.path) + "-before")
    shutil.copytree(fused[1].path, before)
    again(RunFolder(before), fusion__companions=["itemknn", "tfidf", "popularity"])
    of_user = pl.col("user_id") == user
    first, second = (pl.read_parquet(RunFolder(p).fused).filter(of_user) for p in (before, copied.path))
    assert first.equals(second)
    weights = [Fusion.load(RunFolder(p).fusion / "fusion.json").weights for p in (before, copied.path)]
    assert weights[0] != weights[1]


def test_without_companions_nothing_of_an_older_fusion_stays(copied: RunFolder) -> None:
    assert again(copied, fusion__companions=[]) == ["  fusion.companions is empty: no fused ranker"]
    assert not copied.fused.exists()
    assert not copied.fusion.exists()


@pytest.mark.parametrize("count", [1, 2, 9, 10, 12, 13])
def test_few_validation_users_cost_the_fused_ranker_at_most(count: int, copied: RunFolder) -> None:
    prepared = pl.read_parquet(copied.candidates)
    valid = prepared.filter(pl.col("split") == "valid")["user_id"]
    for path in (copied.candidates, copied.histories, copied.scores, copied.baselines):
        frame = pl.read_parquet(path)
        frame.filter(~pl.col("user_id").is_in(valid[count:].to_list())).write_parquet(path)
    config, lines = config_of(copied.path, fusion__companions=["tfidf"]), list[str]()
    for stage in (fuse, evaluate, report):
        stage.STAGE.run(config, copied, lines.append)
    systems = json.loads(copied.metrics.read_text())["systems"]
    few = f"  {count} validation users are too few to learn from (13 at least; "
    assert any(line.startswith(few) for line in lines) == (count < 13)
    assert ("TRSR fused" in systems) == (count >= 13)
    assert systems["TRSR recurrent (compact)"]["valid"]["users"] == count
    assert copied.report.stat().st_size > 10_000


def test_the_smallest_run_ends_with_a_page(tmp_path: Path) -> None:
    lines: list[str] = []
    split = {"valid": 0.4, "test": 0.3}
    config = config_of(tmp_path / "few", data__users=10, split=split, history__min=4)
    folder = run(config, say=lines.append)
    assert any("validation users are too few" in line for line in lines)
    assert "TRSR fused" not in json.loads(folder.metrics.read_text())["systems"]
    assert folder.report.exists()


def test_a_fused_ranker_that_fails_is_left_out_and_tried_again(copied: RunFolder) -> None:
    lines: list[str] = []
    # A companion that can't be had, which is found out after everything was trained and scored.
    run(config_of(copied.path, fusion__companions=["embeddings"]), until="evaluate", say=lines.append)
    [told] = [line for line in lines if line.startswith("  left out: ")]
    assert "{kind: embeddings, model: ...}" in told
    assert "score: complete, skipped" in lines
    assert "TRSR fused" not in json.loads(copied.metrics.read_text())["systems"]
    assert not copied.fused.exists()
    run(config_of(copied.path, fusion__companions=["tfidf"]), until="evaluate", say=lambda line: None)
    assert "TRSR fused" in json.loads(copied.metrics.read_text())["systems"]


def fingerprints(config: Config, folder: RunFolder) -> dict[str, str]:
    return {stage.name: stage.fingerprint(config, folder) for stage in STAGES}


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ({"evaluation__batch_tokens": 4096}, set()),
        ({"fusion__companions": ["tfidf"]}, {"fuse"}),
        ({"evaluation__baselines": ["random"]}, {"score"}),
        ({"evaluation__ks": [3]}, {"evaluate"}),
        ({"comparison__embedding_model": "model"}, set()),
        ({"fusion__companions": ["embeddings"], "comparison__embedding_model": "model"}, {"fuse"}),
    ],
)
def test_a_setting_reruns_the_stages_that_depend_on_it(
    fused: tuple[Config, RunFolder], changes: dict[str, object], changed: set[str]
) -> None:
    before = fingerprints(fused[0], fused[1])
    after = fingerprints(config_of(fused[1].path, **changes), fused[1])
    # The report shows the whole configuration.
    assert {name for name in before if before[name] != after[name]} - {"report"} == changed
