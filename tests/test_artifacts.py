import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trsr.artifacts import RunFolder, hash_path, read_parquet, replacing, sweep, write_parquet, write_text
from trsr.errors import ArtifactError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def test_a_step_is_found_by_its_fingerprint_alone(folder: RunFolder) -> None:
    write_text("one", folder.report)
    assert folder.find("a") is None
    folder.mark_complete("report", "a", [folder.report], seconds=1.23456)
    assert folder.find("a") == folder.entries()["report"]
    assert folder.find("b") is None
    assert folder.entries()["report"].seconds == 1.235


def test_a_changed_or_lost_artifact_makes_the_step_incomplete(folder: RunFolder) -> None:
    write_text("one", folder.report)
    folder.mark_complete("report", "a", [folder.report], seconds=1)
    write_text("two", folder.report)
    assert folder.find("a") is None
    folder.report.unlink()
    assert folder.find("a") is None


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


WRITER = """
import sys
from pathlib import Path
from trsr.artifacts import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    place = tmp_path / "model" / "a.txt"
    command = [sys.executable, "-c", WRITER, str(place)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    killed, living = (subprocess.Popen(command, **pipes) for _ in range(2))
    half, whole = (Path(process.stdout.readline().strip()) for process in (killed, living))
    sweep(tmp_path)
    assert half.exists()
    assert whole.exists()
    killed.kill()
    killed.communicate()
    sweep(tmp_path)
    assert not half.exists()
    assert whole.exists()
    living.communicate("go on\n")
    assert living.returncode == 0
    assert [path.name for path in place.parent.iterdir()] == ["a.txt"]
    assert place.read_text() == "half"


def test_the_next_write_of_a_file_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.abcd1234.partial").write_text("ha")
    (tmp_path / ".a.txt.of-somebody-else").write_text("kept")
    (tmp_path / ".b.txt.abcd1234.partial").write_text("of another file")
    write_text("whole", tmp_path / "a.txt")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".a.txt.of-somebody-else", ".b.txt.abcd1234.partial", "a.txt"]


def test_a_file_swept_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tempfile.mkstemp
    stolen: list[str] = []

    def make(**named: Any) -> tuple[int, str]:
        handle, name = made(**named)
        if not stolen:
            stolen.append(name)
            Path(name).unlink()
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", make)
    write_text("whole", tmp_path / "a.txt")
    assert stolen
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_damaged_manifest_is_told_with_the_next_step(folder: RunFolder) -> None:
    write_text('{"train": 3}', folder.manifest)
    with pytest.raises(ArtifactError, match="delete the run folder"):
        folder.entries()


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
