"""The two commands in the real program: files go out, scores come in, faults are one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import command_line
import polars as pl
import pytest
from typer.testing import CliRunner

from trsr.artifacts import RunFolder
from trsr.cli import app


def trsr(*arguments: object) -> list[str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_out_and_in_again(folder: RunFolder, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder.path, run)
    listed = [Path(line) for line in trsr("export", run, "--to", "trec", "--out", tmp_path / "out")]
    assert all(path.exists() for path in listed)
    assert tmp_path / "out" / "run.random.txt" in listed
    said = trsr("import", run, tmp_path / "out" / "run.random.txt", "--name", "again")
    assert said == [f"Imported: {run / 'imported' / 'again.parquet'}"]
    imported = pl.read_parquet(run / "imported" / "again.parquet")
    assert imported.columns == ["user_id", "split", "item_id", "score"]


@pytest.mark.parametrize("tool", ["recbole", "rectools"])
def test_other_tools(tool: str, folder: RunFolder, tmp_path: Path) -> None:
    listed = trsr("export", folder.path, "--to", tool, "--out", tmp_path / "out")
    assert len(listed) >= 6
    assert all(Path(line).exists() for line in listed)


def test_a_fault_is_one_line_and_exit_code_2(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("user_id,item_id,score\nx,y,1\n", encoding="utf-8")
    done = command_line.trsr("import", folder.path, tmp_path / "scores.csv", "--name", "other")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "scores.csv:2: there is no user 'x' in this run" in done.stderr
