from pathlib import Path

import polars as pl
import pytest
from command_line import trsr
from small_comparison import comparison_config_file


def test_a_first_look_prints_the_table_and_says_where_the_report_lies(tmp_path: Path) -> None:
    config = comparison_config_file(tmp_path)
    done = trsr("compare", config, "--only", "popularity,tfidf", "--seeds", "5")
    assert done.returncode == 0, done.stderr
    assert "20 uniform negatives\nsystem" in done.stdout
    folder = tmp_path / "run" / "comparison"
    assert done.stdout.endswith(f"Table: {folder / 'comparison.csv'}\nReport: {folder / 'comparison.html'}\n")
    assert (folder / "comparison.html").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("compare", "--seeds", "0,x"), "--seeds must be whole numbers by comma, such as --seeds 0,1,2"),
        (("compare", "--seeds", "1,1"), "seeds must name each once, got 1, 1"),
        (("compare", "--pair", "sasrec"), "--pair must be two systems by comma, such as --pair sasrec,tfidf"),
        (("compare", "--only", "sasreq"), "bm25, embeddings, llmseqsim, ncf"),
        (("ablate", "--seeds", "0,x"), "--seeds must be whole numbers by comma, such as --seeds 0,1,2"),
        (("ablate", "--seeds", "1,1"), "seeds must name each once, got 1, 1"),
    ],
)
def test_wrong_arguments_are_told_in_one_message(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    command, *options = arguments
    done = trsr(command, comparison_config_file(tmp_path), *options)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trial_of_a_comparison_takes_so_many_users_and_may_show_none_of_them(tmp_path: Path) -> None:
    config = comparison_config_file(tmp_path)
    done = trsr("compare", config, "--only", "popularity", "--seeds", "5", "--users", "40", "--no-users")
    assert done.returncode == 0, done.stderr
    assert "noted: 40 of " in done.stdout
    assert "users taken by seed 0 (history.users)" in done.stdout
    histories = pl.read_parquet(tmp_path / "run" / "dataset" / "histories.parquet")
    assert histories.height == 40
    page = (tmp_path / "run" / "comparison" / "comparison.html").read_text(encoding="utf-8")
    assert not any(user in page for user in histories["user_id"])
