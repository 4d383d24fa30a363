from pathlib import Path

import polars as pl
import pytest

from trsr.artifacts import RunFolder, hash_path, read_parquet, replacing, write_parquet, write_text
from trsr.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_stage_is_complete_for_its_fingerprint_alone(folder: RunFolder) -> None:
    write_text("one", folder.report)
    assert not folder.is_complete("report", "a")
    folder.mark_complete("report", "a", [folder.report], seconds=1.23456)
    assert folder.is_complete("report", "a")
    assert not folder.is_complete("report", "b")
    assert not folder.is_complete("train", "a")
    assert folder.stages()["report"].seconds == 1.235


def test_a_changed_or_lost_artifact_makes_the_stage_incomplete(folder: RunFolder) -> None:
    write_text("one", folder.report)
    folder.mark_complete("report", "a", [folder.report], seconds=1)
    write_text("two", folder.report)
    assert not folder.is_complete("report", "a")
    folder.report.unlink()
    assert not folder.is_complete("report", "a")


def test_folders_are_hashed_by_names_and_contents(tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_text("x", model / "a.txt")
    before = hash_path(model)
    (model / "a.txt").rename(model / "b.txt")
    renamed = hash_path(model)
    assert renamed != before
    write_text("y", model / "b.txt")
    assert hash_path(model) not in (before, renamed)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text("old", path)

    def write_half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_manifest_is_told_with_the_next_step(folder: RunFolder) -> None:
    write_text('{"train": 3}', folder.manifest)
    with pytest.raises(ArtifactError, match="delete the run folder"):
        folder.stages()


def test_a_damaged_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(pl.DataFrame({"a": [1, 2]}), path)
    assert read_parquet(path)["a"].to_list() == [1, 2]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ArtifactError, match="not a readable Parquet"):
        read_parquet(path)


def test_a_missing_artifact_names_the_stage_that_writes_it(folder: RunFolder) -> None:
    with pytest.raises(ArtifactError, match="run `trsr train`"):
        folder.require(folder.model, "train")
