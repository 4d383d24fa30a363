import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from command_line import trsr

from small_run import small_config_file
from trsr.artifacts import RunFolder
from trsr.config import Config

VERBS = ("run", "prepare", "summarize", "train", "evaluate", "report", "rank", "doctor")


@pytest.fixture
def finished(small: tuple[Config, RunFolder], tmp_path: Path) -> Path:
    """A folder with a finished run and its configuration."""
    shutil.copytree(small[1].path, tmp_path / "run")
    small_config_file(tmp_path)
    return tmp_path


def test_without_a_configuration_the_demo_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = trsr("prepare", "--set", "data.users=60")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "demo" / "dataset" / "candidates.parquet").exists()


def test_help_names_every_verb() -> None:
    done = trsr("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in VERBS)


def test_a_run_goes_on_where_something_changed_and_names_its_report(finished: Path) -> None:
    done = trsr("run", finished / "small.yaml", "--set", "evaluation.report_users=2")
    assert done.returncode == 0, done.stderr
    assert f"Report: {finished / 'run' / 'report.html'}" in done.stdout
    assert "Warning" not in done.stderr


def test_a_finished_run_is_skipped_and_said_so(finished: Path) -> None:
    done = trsr("run", finished / "small.yaml")
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if "complete, skipped" in line] == [
        *("prepare", "summarize", "pretrain", "train"),
        *(f"scores/{name}" for name in ("recurrent", "random", "popularity", "tfidf")),
        *("evaluate", "report"),
    ]


def test_rank_prints_the_summary_and_the_items(finished: Path) -> None:
    user = pl.read_parquet(finished / "run" / "scores" / "recurrent.parquet")["user_id"][0]
    done = trsr("rank", finished / "run", "--user", user, "-k", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Summary: ")
    assert [line.split(".")[0].strip() for line in done.stdout.splitlines()[2:]] == ["1", "2", "3"]
    as_json = json.loads(trsr("rank", finished / "run", "--user", user, "-k", 3, "--json").stdout)
    assert len(as_json["items"]) == 3
    assert set(as_json["items"][0]) == {"item_id", "p_yes", "score"}
    assert as_json["summary"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("run", "--set", "epochs"), "key=value"),
        (("run", "--set", "training.epochs=0", "--set", "nothing=1"), "2 settings to mend"),
        (("prepare", "--set", "data={format: microlens, path: nowhere}"), "nowhere"),
        (("doctor", "nowhere"), "nowhere"),
        (("run", "."), "give a configuration"),
        (("run", "--set", "evaluation.ks=[]"), "evaluation.ks"),
        (("run", "--set", "name=../away"), "name"),
        (("rank", ".", "--user", "a", "--history", "b"), "either --user or --history"),
        (("rank", ".", "--user", "a"), "not a run folder"),
        (("rank", ".", "--user", "a", "--with", "magic"), "fused, language_model"),
    ],
)
def test_wrong_input_ends_with_one_message_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = trsr(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("trsr: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failure_ends_with_code_1(tmp_path: Path) -> None:
    small_config_file(tmp_path).rename(tmp_path / "config.yaml")
    done = trsr("rank", tmp_path, "--user", "u1")
    assert done.returncode == 1
    assert "run `trsr train`" in done.stderr
    assert done.stderr.startswith("trsr: ")
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_a_usage_error() -> None:
    assert trsr("run", "--nothing").returncode == 2


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = trsr("prepare", "--out", tmp_path / "file" / "run")
    assert done.returncode == 1
    assert "can't be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_goes_by_the_files_window_and_by_the_flags_over_it(tmp_path: Path) -> None:
    config = small_config_file(tmp_path, history__min=6, history__max=8)
    assert "with at least 6 interactions" in trsr("doctor", config).stdout
    assert "with at least 9 interactions" in trsr("doctor", config, "--min", 9, "--max", 20).stdout


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path) -> None:
    interrupt = "lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt)"
    command = f"import trsr, trsr.cli as c; trsr.run = {interrupt}; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "run"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 130
    assert "run the same command to go on" in done.stderr
