import json
import shutil
import signal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import trsr
from small_comparison import Finished, comparison_config, comparison_config_file

from killed_program import killed_at
from trsr.artifacts import RunFolder, hash_path
from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.errors import ConfigError, DataError
from trsr.experiments import compare as compare_module
from trsr.experiments.compare import _named, compare
from trsr.experiments.tables import SelectedSystems
from trsr.ranking.ranker import Ranker
from trsr.records import CANDIDATES, SPLIT, TARGET, USER

pytestmark = pytest.mark.usefixtures("unwritten")
SYSTEMS = ["popularity", "tfidf", "sasrec", "tallrec", "recurrent", "fused"]


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Config:
    """The finished comparison in a folder of its own, to be changed."""
    shutil.copytree(finished.config.folder, tmp_path / "run")
    return comparison_config(tmp_path / "run")


def figures(finished: Finished) -> dict:
    return json.loads(finished.written.figures.read_text(encoding="utf-8"))


def without_place(path: Path) -> dict:
    """The figures, but for the settings, which name the run's folder."""
    told = json.loads(path.read_text(encoding="utf-8"))
    told["provenance"].pop("config")
    return told


def test_every_system_stands_in_both_samplers_tables(finished: Finished) -> None:
    told = figures(finished)
    assert [system["name"] for system in told["systems"]] == SYSTEMS
    assert [table["sampler"] for table in told["tables"]] == ["uniform", "popularity"]
    for table in told["tables"]:
        assert [row["system"] for row in table["rows"]] == SYSTEMS
        assert {row["users"] for row in table["rows"]} == {told["provenance"]["users"]["test"]}
        assert table["candidates"] == 21


def test_whole_catalogue_and_two_stages_have_rows_and_columns_of_their_own(finished: Finished) -> None:
    told = figures(finished)
    assert [row["system"] for row in told["catalogue"]["rows"]] == ["popularity", "tfidf", "sasrec", "fused"]
    assert "The fused ranker orders what is retrieved" in told["catalogue"]["note"]
    assert told["catalogue"]["candidates"] == 80
    two = told["two_stage"]
    assert {row["system"] for row in two["rows"]} == {two["retriever"], "tallrec", "recurrent", "fused"}
    for row in two["rows"]:
        assert row["metrics"]["Recall@10"]["mean"] <= two["ceiling"]["mean"] + 1e-6
    columns = pl.read_parquet(finished.written.parquet).columns
    assert {"uniform NDCG@10", "popularity NDCG@10", "catalogue NDCG@10", "two-stage NDCG@10"} <= set(columns)
    assert "NDCG@10" not in columns


def test_lists_of_the_catalogue_are_measured_beyond_accuracy(finished: Finished) -> None:
    rows = {row["system"]: row for row in figures(finished)["catalogue"]["rows"]}
    table = pl.read_parquet(finished.written.parquet)
    popular, tfidf = rows["popularity"]["beyond"], rows["tfidf"]["beyond"]
    for k in (10, 20):
        # Everybody is shown the same few items, but for those of their own history, and none is a find.
        assert popular[f"Coverage@{k}"]["mean"] < tfidf[f"Coverage@{k}"]["mean"] <= 1
        assert popular[f"Novelty@{k}"]["mean"] < tfidf[f"Novelty@{k}"]["mean"]
        assert popular[f"Coverage@{k}"]["low"] is None
        # The fused ranker reads few items here: where its lists are shorter, there is nothing to say.
        measured = {name: row for name, row in rows.items() if f"Coverage@{k}" in row["beyond"]}
        assert set(rows) - set(measured) <= {"fused"}
        for name, row in measured.items():
            shown = table.row(by_predicate=pl.col("system") == name, named=True)
            assert shown[f"catalogue Coverage@{k}"] == pytest.approx(
                row["beyond"][f"Coverage@{k}"]["mean"], abs=1e-6
            )
            assert row["beyond"][f"Novelty@{k}"]["low"] < row["beyond"][f"Novelty@{k}"]["mean"]
    for name, row in rows.items():
        assert row["beyond"]["Serendipity@10"]["mean"] <= row["metrics"]["Recall@10"]["mean"], name


def test_two_stage_figures_agree_with_ranks_among_the_retrieved(finished: Finished) -> None:
    """A retriever that orders its own items has, up to their number, its ranks in the catalogue."""
    told = figures(finished)
    two = told["two_stage"]
    own = next(row for row in two["rows"] if row["system"] == two["retriever"])
    whole = next(row for row in told["catalogue"]["rows"] if row["system"] == two["retriever"])
    assert own["metrics"]["NDCG@10"]["mean"] == pytest.approx(whole["metrics"]["NDCG@10"]["mean"], abs=0.06)


def test_the_exact_expectation_stands_beside_the_sampled_figure(finished: Finished) -> None:
    uniform, popularity = figures(finished)["tables"]
    exact = {row["system"]: row["exact"] for row in uniform["rows"]}
    assert all(exact[name]["Recall@3"] > 0 for name in ("popularity", "tfidf", "sasrec"))
    assert exact["tallrec"] == exact["fused"] == {}
    assert all(row["exact"] == {} for row in popularity["rows"])
    for row in uniform["rows"][:3]:
        low, high = row["metrics"]["NDCG@10"]["low"], row["metrics"]["NDCG@10"]["high"]
        assert low - 0.1 < row["exact"]["NDCG@10"] < high + 0.1


def test_seeds_train_anew_and_deterministic_systems_run_once(finished: Finished) -> None:
    rows = {row["system"]: row for row in figures(finished)["tables"][0]["rows"]}
    assert len(rows["tfidf"]["by_seed"]["NDCG@10"]) == 1
    for name in ("sasrec", "tallrec", "recurrent", "fused"):
        assert len(rows[name]["by_seed"]["NDCG@10"]) == 2
        assert np.mean(rows[name]["by_seed"]["NDCG@10"]) == pytest.approx(
            rows[name]["metrics"]["NDCG@10"]["mean"], abs=1e-5
        )
    shelf = finished.config.folder / "comparison"
    first, second = (pl.read_parquet(shelf / "scores" / "sasrec" / f"seed-{seed}.parquet") for seed in (0, 1))
    assert not first.equals(second)


def test_every_system_answers_the_same_frozen_candidates(finished: Finished) -> None:
    folder = RunFolder(finished.config.folder)
    shelf = folder.path / "comparison"
    runs = sorted(shelf.glob("*/run-*"))
    assert len(runs) == 4
    assert not [run for run in runs if (run / "dataset").exists()], "the data is that of the run alone"
    hashes = figures(finished)["provenance"]["hashes"]
    assert hashes["candidates.parquet"] == hash_path(folder.candidates)
    other = pl.read_parquet(shelf / "candidates_popularity.parquet")
    own = pl.read_parquet(folder.candidates).filter(pl.col(SPLIT) != "train")
    assert other.select(USER, TARGET).equals(own.select(USER, TARGET))
    assert not other[CANDIDATES].equals(own[CANDIDATES])
    asked = [
        frame.select(USER, SPLIT, pl.lit(sampler).alias("sampler"), pl.col(CANDIDATES).alias("item_id"))
        for sampler, frame in (("uniform", own), ("popularity", other))
    ]
    pairs = pl.concat(asked).explode("item_id").sort(pl.all())
    answered = list((shelf / "scores").glob("*/seed-?.parquet"))
    assert len(answered) == 8
    for path in answered:
        answers = pl.read_parquet(path)
        assert answers.drop("score").sort(pl.all()).equals(pairs), path


def test_forms_of_one_seed_share_their_pre_training_and_seeds_their_summaries(finished: Finished) -> None:
    shelf = finished.config.folder / "comparison"
    made = {
        (name, seed): RunFolder(shelf / name / f"run-{seed}")
        for name in ("tallrec", "recurrent")
        for seed in (0, 1)
    }
    assert [run for run, folder in made.items() if folder.pretrained.exists()] == [
        ("tallrec", 0),
        ("tallrec", 1),
    ]
    assert hash_path(made["tallrec", 0].pretrained) != hash_path(made["tallrec", 1].pretrained)
    assert [run for run, folder in made.items() if folder.summaries.exists()] == [
        ("tallrec", 0),
        ("recurrent", 0),
    ]
    # What was used where it lies was still worked for.
    for name, seed in made:
        entry = RunFolder(shelf).entries()[f"scores/{name}/seed-{seed}"]
        assert set(entry.details["details"]["seconds"]) == {"summarize", "pretrain", "train"}


def test_a_ranker_is_loaded_once_and_a_table_read_once_but_summaries_once_a_seed(
    copied: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = copied.folder / "comparison"
    for made in ("scores/recurrent", "second_stage"):
        shutil.rmtree(shelf / made)
    read: list[Path] = []
    loaded: list[Path] = []
    read_parquet, load = pl.read_parquet, Ranker.load
    monkeypatch.setattr(pl, "read_parquet", lambda path, **k: read.append(path) or read_parquet(path, **k))
    monkeypatch.setattr(Ranker, "load", lambda path, *a: loaded.append(path) or load(path, *a))
    compare(copied, say=lambda line: None)
    assert sorted(loaded) == sorted(shelf.glob("*/run-*/model"))
    assert {copied.folder / "dataset" / "items.parquet", shelf / "candidates_popularity.parquet"} <= set(read)
    again = {path: read.count(path) for path in set(read) if read.count(path) > 1}
    assert again == dict.fromkeys(shelf.glob("*/run-0/summaries.parquet"), 2)
    loaded.clear()
    compare(copied, say=lambda line: None)
    assert loaded == [], "what is complete needs no model"


def test_every_row_says_how_it_was_trained(finished: Finished) -> None:
    table = {row["system"]: row for row in pl.read_parquet(finished.written.parquet).iter_rows(named=True)}
    assert list(table) == SYSTEMS
    assert table["tfidf"]["training_examples"] is None
    assert "softmax" in table["sasrec"]["training_negatives"]
    assert table["recurrent"]["training_negatives"].startswith("1 a positive, uniform")
    assert table["tallrec"]["training_examples"] == 24
    assert all(row["training_seconds"] >= 0 for row in table.values())
    assert table["fused"]["training_seconds"] > table["recurrent"]["training_seconds"] * 0.5
    assert finished.written.csv.read_text(encoding="utf-8").count("\n") == len(SYSTEMS) + 1


def test_the_page_and_the_printed_table_name_every_system(finished: Finished) -> None:
    page = finished.written.page.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    printed = finished.said[-1]
    for title in ("20 uniform negatives", "20 popularity negatives", "whole catalogue", "two stages"):
        assert title in printed
    assert all(printed.count(f"\n{name} ") >= 2 for name in SYSTEMS)
    blocks = printed.strip().split("\n\n")
    assert all(len({line.index("  ") > 0 for line in block.splitlines()[2:]}) == 1 for block in blocks[:2])


def test_what_is_complete_is_skipped(finished: Finished, copied: Config) -> None:
    said: list[str] = []
    written = compare(copied, say=said.append)
    jobs = [line for line in said if line.startswith("[")]
    assert len(jobs) == 12
    assert all(line.endswith("complete, skipped") for line in jobs)
    assert without_place(written.figures) == without_place(finished.written.figures)


def test_pairs_of_a_finished_comparison_are_tested_and_nothing_is_made_again(
    finished: Finished, copied: Config
) -> None:
    pairs = (("tfidf", "sasrec"), ("popularity", "recurrent"))
    asked = copied.comparison.model_copy(update={"pairs": pairs})
    said: list[str] = []
    written = compare(copied.model_copy(update={"comparison": asked}), say=said.append)
    assert all(line.endswith("complete, skipped") for line in said if line.startswith("["))
    told, before = without_place(written.figures), without_place(finished.written.figures)
    tables = [*told["tables"], told["catalogue"]]
    found = [
        [(test["first"], test["second"], test["metric"]) for test in table.pop("pairs")] for table in tables
    ]
    drawn = [(*pair, metric) for metric in ("Recall@3", "NDCG@10") for pair in pairs]
    assert found == [drawn, drawn, [test for test in drawn if test[0] == "tfidf"]]
    assert all(table.pop("pairs") == [] for table in [*before["tables"], before["catalogue"]])
    assert told == before
    rows = {row["system"]: row["metrics"]["NDCG@10"]["mean"] for row in told["tables"][0]["rows"]}
    block = next(part for part in said[-1].split("\n\n") if part.startswith("Differences that were asked"))
    line = next(
        line for line in block.splitlines() if line.split()[:4] == ["tfidf", "sasrec", "uniform", "NDCG@10"]
    )
    assert float(line.split()[4].replace("−", "-")) == pytest.approx(rows["tfidf"] - rows["sasrec"], abs=1e-3)


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("tfidf", "sasrek"), "no system 'sasrek' takes part; did you mean sasrec"),
        (("tfidf", "lightgcn"), "no system 'lightgcn' takes part; there are popularity, tfidf, bm25"),
        (("tfidf", "bm25"), r"did you mean bm25\(b=0.5\) or bm25\(k1=1.5\)"),
        (("tfidf", "tfidf"), "a pair is of two systems, got tfidf twice"),
    ],
)
def test_a_pair_of_whom_nobody_knows_is_refused_with_the_near_name(pair: tuple[str, str], told: str) -> None:
    wanted = SelectedSystems(("popularity", "tfidf", "bm25(b=0.5)", "bm25(k1=1.5)"), ("tallrec",), True)
    with pytest.raises(ConfigError, match=told):
        _named([pair], [wanted], ["sasrec"])
    asked = [("fused", "sasrec"), ("tallrec", "bm25(b=0.5)"), ("sasrec", "fused")]
    # What --only leaves out is known; a pair the other way round is the same one.
    assert _named(asked, [SelectedSystems(("popularity",), (), False), wanted], ["sasrec"]) == [
        ("fused", "sasrec"),
        ("tallrec", "bm25(b=0.5)"),
    ]


def test_only_some_systems_are_asked_for(copied: Config) -> None:
    # What the settings name besides isn't looked at: this one lacks its images.
    lacking = copied.comparison.model_copy(update={"language_models": ("mllm_msr",)})
    settings = copied.model_copy(update={"comparison": lacking})
    written = compare(settings, only=["tfidf", "sasrec"], say=lambda line: None)
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    assert [system["name"] for system in told["systems"]] == ["tfidf", "sasrec"]
    assert told["two_stage"] is None


def test_a_form_alone_is_compared_with_nothing_and_says_so(copied: Config) -> None:
    said: list[str] = []
    written = compare(copied, only=["tallrec"], say=said.append)
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    assert [system["name"] for system in told["systems"]] == ["tallrec"]
    assert told["catalogue"] is None
    assert told["two_stage"] is None
    assert told["baseline"] == ""
    assert "complete, skipped" in "".join(said)


def test_a_system_that_cannot_be_had_is_told_before_the_long_work(tmp_path: Path) -> None:
    config = comparison_config(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"needs a model: name it as"):
        compare(config, only=["tfidf", "embeddings"], say=lambda line: None)
    assert not (tmp_path / "run" / "comparison" / "tfidf").exists()


def test_an_unknown_system_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--only must name systems among random, .*, got 'sasreq'"):
        compare(comparison_config(tmp_path / "run"), only=["sasreq"], say=lambda line: None)


def test_a_comparison_that_is_killed_ends_like_one_that_was_not(finished: Finished, tmp_path: Path) -> None:
    config = comparison_config_file(tmp_path)
    # What the other systems say is there already: one form is trained, and all that follows it is done.
    shelf = tmp_path / "run" / "comparison"
    shutil.copytree(finished.config.folder, tmp_path / "run")
    for made in ("recurrent", "scores/recurrent", "second_stage"):
        shutil.rmtree(shelf / made)
    for written in shelf.glob("comparison.*"):
        written.unlink()
    for function, number in (
        ("trsr.hf.trainer.PlannedTrainer.training_step", 4),
        ("trsr.experiments.systems.LanguageModel.score", 3),
    ):
        died = killed_at(function, number, "compare", config)
        assert died.returncode == -signal.SIGKILL, died.stdout
    assert not (shelf / "comparison.html").exists()
    last = trsr("compare", config)
    assert last.returncode == 0, last.stderr
    jobs = [line for line in last.stdout.splitlines() if "recurrent" in line and line.startswith("[")]
    assert any(line.endswith("complete, skipped") for line in jobs), jobs
    assert f"Report: {shelf / 'comparison.html'}" in last.stdout
    assert without_place(shelf / "comparison.json") == without_place(finished.written.figures)
    assert [path.name for path in shelf.rglob(".*")] == []


def test_permuted_test_targets_change_no_choice(tmp_path: Path) -> None:
    """What is chosen, learnt or stopped must not know what the test users took next."""
    source = comparison_config(tmp_path / "source")
    from trsr.pipeline import run  # noqa: PLC0415

    folder = run(source, until="prepare", say=lambda line: None)
    histories, background = pl.read_parquet(folder.histories), pl.read_parquet(folder.background)
    told = []
    for name, turn in (("true", 0), ("permuted", 1)):
        home = tmp_path / name
        home.mkdir()
        test = histories.filter(pl.col(SPLIT) == "test")
        turned = test.with_columns(pl.Series(TARGET, np.roll(test[TARGET].to_numpy(), turn)))
        whole = pl.concat([histories.filter(pl.col(SPLIT) != "test"), turned]).sort(USER)
        items = whole.select(USER, pl.concat_list("history", TARGET).alias("item_ids"))
        pl.concat([items, background.select(USER, "item_ids")]).write_parquet(home / "histories.parquet")
        shutil.copyfile(folder.items, home / "items.parquet")
        config = comparison_config(
            home / "run",
            data={
                "format": "tables",
                "items": str(home / "items.parquet"),
                "histories": str(home / "histories.parquet"),
                "user_column": USER,
                "history_column": "item_ids",
            },
            comparison__seeds=[0],
        )
        written = compare(config, say=lambda line: None)
        shelf = home / "run" / "comparison"
        entry = RunFolder(shelf).entries()["scores/sasrec/seed-0"]
        values = json.loads(written.figures.read_text(encoding="utf-8"))
        told.append(
            {
                "choices": values["provenance"]["choices"],
                "weights": values["fusion"]["weights"],
                "chosen": (values["language_model"], values["baseline"], values["two_stage"]["retriever"]),
                "stopped": entry.details["details"],
                "models": [
                    hash_path(shelf / form / "run-0" / "model" / "model.safetensors")
                    for form in ("tallrec", "recurrent")
                ],
            }
        )
        assert isinstance(config.model, CompactModel)
    assert told[0] == told[1]
    scores = [
        json.loads((tmp_path / name / "run" / "comparison" / "comparison.json").read_text())["tables"][0]
        for name in ("true", "permuted")
    ]
    assert scores[0] != scores[1]


def test_a_fused_ranker_that_fails_takes_nothing_with_it(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(finished.config.folder, tmp_path / "run")
    said: list[str] = []

    def fail(*_: object) -> None:
        raise DataError("its weights can't be found")

    monkeypatch.setattr(compare_module, "FusedSystem", fail)
    written = compare(finished.config.model_copy(update={"out": folder}), say=said.append)
    assert "no fused ranker: its weights can't be found" in said
    told = json.loads(written.figures.read_text(encoding="utf-8"))
    assert [system["name"] for system in told["systems"]] == SYSTEMS[:-1]
