"""Qrels and runs: exact round trips, and ir-measures reads our figures out of them."""

from pathlib import Path

import ir_measures
import polars as pl
import pytest

from trsr.artifacts import RunFolder
from trsr.errors import DataError
from trsr.evaluation.metrics import metrics_at, user_metrics
from trsr.interop.candidates import Frozen, ranked_pairs, read_run, system_scores, write_qrels, write_run

PAIR = ["user_id", "item_id"]


@pytest.mark.parametrize("system", ["random", "popularity"])
def test_scores_survive_bit_by_bit_with_their_ties(
    system: str, folder: RunFolder, frozen: Frozen, out: Path
) -> None:
    scores = system_scores(folder)[system]
    path = out / "run.txt"
    assert write_run(frozen, scores, "a name", path) == ("uniform", "popularity")
    read = read_run(path, frozen.candidates)
    again = read.with_columns(pl.col("score").cast(pl.Float64)).select(*PAIR, "score")
    assert again.height == sum(frozen.pairs(sampler).height for sampler in frozen.candidates)
    want = scores.select(*PAIR, "score").sort(PAIR)
    assert again.unique().sort(PAIR).equals(want)


def test_lines_are_of_the_form_that_trec_tools_read(folder: RunFolder, frozen: Frozen, out: Path) -> None:
    write_run(frozen, system_scores(folder)["random"], "a name", out / "run.txt")
    lines = (out / "run.txt").read_text(encoding="utf-8").splitlines()
    assert {len(line.split()) for line in lines} == {6}
    assert {line.split()[5] for line in lines} == {"a%20name"}
    assert [int(line.split()[3]) for line in lines[:21]] == list(range(1, 22))
    numbers = [float(line.split()[4]) for line in lines[:21]]
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize("sampler", ["uniform", "popularity"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_ir_measures_gives_our_figures_user_by_user(
    sampler: str, split: str, folder: RunFolder, frozen: Frozen, out: Path
) -> None:
    scores = system_scores(folder)["random"]
    write_qrels(frozen, split, out / "qrels.txt")
    write_run(frozen, scores, "random", out / "run.txt")
    candidates = frozen.candidates[sampler].filter(pl.col("split") == split)
    wanted = scores.join(frozen.pairs(sampler).filter(pl.col("split") == split), on=PAIR, how="semi")
    mine = user_metrics(candidates, wanted, metrics_at((3, 10)))
    assert mine["tied"].sum() == 0
    qrels = [
        row
        for row in ir_measures.read_trec_qrels(str(out / "qrels.txt"))
        if row.query_id.startswith(f"{sampler}:")
    ]
    assert len(qrels) == 21 * candidates.height
    run = list(ir_measures.read_trec_run(str(out / "run.txt")))
    for k in (3, 10):
        measures = {
            ir_measures.R @ k: f"Recall@{k}",
            ir_measures.RR @ k: f"MRR@{k}",
            ir_measures.nDCG @ k: f"NDCG@{k}",
        }
        theirs = {measure: [] for measure in measures}
        for found in ir_measures.iter_calc(list(measures), qrels, run):
            theirs[found.measure].append(found.value)
        for measure, name in measures.items():
            assert sorted(theirs[measure]) == pytest.approx(sorted(mine[name])), name


def test_a_system_that_scored_one_sampler_is_written_for_that_one(
    folder: RunFolder, frozen: Frozen, out: Path
) -> None:
    scores = system_scores(folder)["random"].join(frozen.pairs("uniform"), on=PAIR, how="semi")
    assert write_run(frozen, scores, "half", out / "run.txt") == ("uniform",)
    assert write_run(frozen, scores.head(5), "none", out / "nothing.txt") == ()
    assert not (out / "nothing.txt").exists()


def test_ties_are_ranked_by_chance_and_not_for_the_target(frozen: Frozen) -> None:
    pairs = frozen.all_pairs().with_columns(score=pl.lit(0.0))
    ranked = ranked_pairs(frozen, "uniform", pairs)
    targets = frozen.pairs("uniform").filter("target")
    ranks = ranked.join(targets, on=PAIR, how="semi")["rank"]
    assert ranks.n_unique() > 8


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("uniform:u Q0 i 1 0.5", r"run.txt:2: .* six fields .* got 5"),
        ("other:u Q0 i 1 0.5 tag", r"run.txt:2: queries are called .* got 'other:u'"),
        ("u Q0 i 1 0.5 tag", r"run.txt:2: queries are called .* got 'u'"),
    ],
)
def test_faulty_lines_are_named(line: str, told: str, frozen: Frozen, tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_text(f"uniform:u Q0 i 1 0.5 tag\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=told):
        read_run(path, frozen.candidates)
