"""Outside scores: round trips through every export, and every misfit named with file and line."""

import csv
import shutil
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest

from trsr.artifacts import RunFolder
from trsr.errors import ArtifactError, ConfigError, DataError
from trsr.interop.candidates import Frozen, imported_scores, open_frozen, system_scores
from trsr.interop.export import export
from trsr.interop.importing import import_scores, read_scores
from trsr.records import Tool

PAIR = ["user_id", "item_id"]


@pytest.fixture
def run(folder: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(folder.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def scores(folder: RunFolder) -> pl.DataFrame:
    return system_scores(folder)["popularity"].select(*PAIR, "score").sort(PAIR)


def test_a_trec_run_comes_back(run: RunFolder, scores: pl.DataFrame, out: Path) -> None:
    paths = export(run, Tool.TREC, out)
    assert [path.name for path in paths] == [
        "qrels.valid.txt",
        "qrels.test.txt",
        "run.popularity.txt",
        "run.random.txt",
    ]
    path = import_scores(run, out / "run.popularity.txt", "other")
    assert path == run.path / "imported" / "other.parquet"
    assert imported_scores(run)["other"].sort(PAIR).equals(scores)
    assert list(system_scores(run)) == ["popularity", "random", "other"]
    assert [path.name for path in export(run, Tool.TREC, out)][-1] == "run.other.txt"


def test_ids_are_read_as_in_other_tables(folder: RunFolder, tmp_path: Path) -> None:
    frozen = open_frozen(folder)
    file = tmp_path / "scores.parquet"
    pl.DataFrame({"user_id": [7.0, 8.0], "item_id": [" 007", "7.5"], "score": [1, 2]}).write_parquet(file)
    assert read_scores(file, frozen).rows() == [(1, "7", "007", 1.0), (2, "8", "7.5", 2.0)]
    pl.DataFrame({"user_id": [7.0, None], "item_id": ["a", "b"], "score": [1, 2]}).write_parquet(file)
    with pytest.raises(DataError, match=r"1 rows without user or item, such as scores\.parquet:2"):
        read_scores(file, frozen)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_tables_come_back(ending: str, run: RunFolder, scores: pl.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / f"scores{ending}"
    extra = scores.with_columns(rank=pl.lit(1))
    if ending == ".parquet":
        extra.write_parquet(file)
    else:
        extra.sample(fraction=1.0, shuffle=True, seed=0).write_csv(
            file, separator="\t" if ending == ".tsv" else ","
        )
    import_scores(run, file, "other")
    assert imported_scores(run)["other"].sort(PAIR).equals(scores)


def test_scored_recbole_candidates_come_back(run: RunFolder, scores: pl.DataFrame, out: Path) -> None:
    """Fill the exported list of pairs with scores, as a script around RecBole would, and import it."""
    export(run, Tool.RECBOLE, out)
    with (out / "candidates.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    by_pair = {(user, item): score for user, item, score in scores.iter_rows()}
    with (out / "scored.tsv").open("w", encoding="utf-8") as stream:
        stream.write("user_id:token\titem_id:token\tscore:float\n")
        for row in rows:
            pair = (unquote(row["user_id:token"]), unquote(row["item_id:token"]))
            stream.write(f"{row['user_id:token']}\t{row['item_id:token']}\t{by_pair[pair]!r}\n")
    import_scores(run, out / "scored.tsv", "recbole-gru")
    assert imported_scores(run)["recbole-gru"].sort(PAIR).equals(scores)


def test_rectools_recommendations_come_back(run: RunFolder, scores: pl.DataFrame, out: Path) -> None:
    export(run, Tool.RECTOOLS, out)
    recos = [
        pl.read_parquet(out / f"reco_popularity_{sampler}.parquet") for sampler in ("uniform", "popularity")
    ]
    pl.concat(recos).write_parquet(out / "all.parquet")
    import_scores(run, out / "all.parquet", "other")
    assert imported_scores(run)["other"].sort(PAIR).equals(scores)


def test_validation_may_be_left_out_and_the_test_may_not(
    run: RunFolder, scores: pl.DataFrame, frozen: Frozen, tmp_path: Path
) -> None:
    pairs = frozen.all_pairs()
    for split, kept in (("test", True), ("valid", False)):
        scores.join(pairs.filter(pl.col("split") == split), on=PAIR, how="semi").write_csv(
            tmp_path / "half.csv"
        )
        if kept:
            frame = pl.read_parquet(import_scores(run, tmp_path / "half.csv", "half"))
            assert frame["split"].unique().to_list() == ["test"]
        else:
            with pytest.raises(DataError, match=r"half\.csv: lacks .* pairs of the test split"):
                import_scores(run, tmp_path / "half.csv", "half")


def _refused(run: RunFolder, frame: pl.DataFrame, tmp_path: Path, told: str) -> None:
    frame.write_csv(tmp_path / "scores.csv")
    with pytest.raises(DataError, match=told):
        import_scores(run, tmp_path / "scores.csv", "other")
    assert not (run.path / "imported").exists()


def test_a_missing_pair_is_named(
    run: RunFolder, scores: pl.DataFrame, frozen: Frozen, tmp_path: Path
) -> None:
    test = frozen.all_pairs().filter(pl.col("split") == "test")
    user, item = test.select(PAIR).row(0)
    left = scores.filter(~((pl.col("user_id") == user) & (pl.col("item_id") == item)))
    _refused(run, left, tmp_path, f"scores.csv: lacks 1 of {test.height} pairs of the test split")


def test_an_extra_pair_is_named_with_its_line(run: RunFolder, scores: pl.DataFrame, tmp_path: Path) -> None:
    extra = scores.head(1).with_columns(item_id=pl.lit("nothing"))
    line = scores.height + 2
    _refused(run, pl.concat([scores, extra]), tmp_path, rf"scores.csv:{line}: item 'nothing' is no candidate")
    stranger = scores.head(1).with_columns(user_id=pl.lit("stranger"))
    _refused(run, pl.concat([scores, stranger]), tmp_path, rf"scores.csv:{line}: there is no user 'stranger'")


def test_a_training_user_is_named(
    run: RunFolder, scores: pl.DataFrame, frozen: Frozen, tmp_path: Path
) -> None:
    user = frozen.prepared.histories.filter(pl.col("split") == "train")["user_id"][0]
    extra = scores.head(1).with_columns(user_id=pl.lit(user))
    _refused(run, pl.concat([extra, scores]), tmp_path, r"scores.csv:2: user .* is of the train split")


@pytest.mark.parametrize("bad", ["NaN", "", "high"])
def test_a_score_that_is_no_number_is_named_with_its_line(
    bad: str, run: RunFolder, scores: pl.DataFrame, tmp_path: Path
) -> None:
    texts = scores.with_columns(pl.col("score").cast(pl.String))
    texts[3, "score"] = bad
    _refused(run, texts, tmp_path, r"scores.csv:5: score must be a number")


def test_two_scores_of_a_pair_are_named(run: RunFolder, scores: pl.DataFrame, tmp_path: Path) -> None:
    other = scores.head(1).with_columns(pl.col("score") + 1.5)
    _refused(run, pl.concat([other, scores]), tmp_path, r"scores.csv:3: .* another score than before")


def test_missing_columns_and_other_endings_are_named(
    run: RunFolder, scores: pl.DataFrame, tmp_path: Path
) -> None:
    _refused(run, scores.rename({"score": "points"}), tmp_path, r"no column 'score'; the columns are user_id")
    (tmp_path / "scores.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"must end in \.csv"):
        import_scores(run, tmp_path / "scores.xlsx", "other")
    with pytest.raises(DataError, match="no such file"):
        import_scores(run, tmp_path / "absent.csv", "other")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet"):
        import_scores(run, tmp_path / "broken.parquet", "other")
    (tmp_path / "bad.csv").write_text("user_id,item_id,score\nu,i\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"wrong number of fields, such as bad\.csv:2"):
        import_scores(run, tmp_path / "bad.csv", "other")


@pytest.mark.parametrize("name", ["", "../up", "a b", "popularity", "recurrent", "no-summary", ".hidden"])
def test_names_that_are_taken_or_no_names_are_refused(name: str, run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--name"):
        import_scores(run, tmp_path / "scores.csv", name)


def test_a_folder_that_is_not_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trsr prepare"):
        export(RunFolder(tmp_path / "nothing"), Tool.TREC, tmp_path)
