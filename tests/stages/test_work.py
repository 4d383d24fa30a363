"""A step is made once for the same settings and the same content, and what is half made doesn't count."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from small_run import small_config
from trsr.artifacts import RunFolder, read_parquet, write_parquet, write_text
from trsr.config import Config
from trsr.data.prepare import prepare as prepare_data
from trsr.stages import prepare as prepare_module
from trsr.stages.work import Artifact, Made, Work, only

TABLE = pl.DataFrame({"user_id": ["u", "v"], "score": [0.5, 0.25]})


class Bench:
    """One step of a folder; it writes a table, and counts how often it is made."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.said: list[str] = []
        self.made = 0

    def take(
        self,
        name: str = "scores/tfidf",
        content: Any = "data",
        sources: tuple[RunFolder, ...] = (),
        partial: bool = False,
        together: bool = False,
        **settings: Any,
    ) -> Artifact[pl.DataFrame]:
        config = small_config(self.folder.path, **settings)
        path = self.folder.path / f"{name}.parquet"

        def make(shown: Config) -> Made:
            self.made += 1
            write_parquet(TABLE.with_columns(seed=pl.lit(shown.seed)), path)
            return Made([path], {"users": 2}, is_partial=partial)

        work = Work(config, self.folder, self.said.append, sources, together=together)
        return work.step(
            name,
            "score",
            make,
            lambda made: read_parquet(made.path),
            settings=("seed", "evaluation"),
            free=("evaluation.batch_tokens",),
            content=content,
            scratch=(self.folder.checkpoints,),
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path / "run")
    bench.take()
    return bench


def test_what_was_made_is_found_and_its_value_is_what_was_written(bench: Bench) -> None:
    again = bench.take()
    assert bench.made == 1
    assert bench.said == ["scores/tfidf: score", "scores/tfidf: complete, skipped"]
    assert again.value.drop("seed").equals(TABLE)
    assert again.entry.details == {"users": 2}
    assert again.path == bench.folder.scores / "tfidf.parquet"


def test_a_setting_that_decides_nothing_and_one_of_another_step_make_nothing_again(bench: Bench) -> None:
    bench.take(evaluation__batch_tokens=4096, training__epochs=7)
    assert bench.made == 1


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"evaluation__ks": [3]}, {"content": "other data"}, {"name": "scores/bm25"}],
    ids=["setting", "setting of a section", "content", "name"],
)
def test_another_setting_content_or_name_is_made(bench: Bench, change: dict[str, Any]) -> None:
    other = bench.take(**change)
    assert bench.made == 2
    assert other.value["seed"].to_list() == [change.get("seed", 0)] * 2


@pytest.mark.parametrize("broken", ["cut table", "other table", "no table", "no manifest"])
def test_what_is_damaged_or_lost_is_made_again(bench: Bench, broken: str) -> None:
    table = bench.folder.scores / "tfidf.parquet"
    match broken:
        case "cut table":
            table.write_bytes(table.read_bytes()[:-10])
        case "other table":
            TABLE.with_columns(score=pl.lit(1.0)).write_parquet(table)
        case "no table":
            table.unlink()
        case _:
            bench.folder.manifest.unlink()
    assert bench.take().value.drop("seed").equals(TABLE)
    assert bench.made == 2
    bench.take()
    assert bench.made == 2


def test_what_lacks_something_is_made_again_until_it_is_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take(partial=True)
    bench.take(partial=True)
    assert bench.made == 2
    bench.take()
    bench.take()
    assert bench.made == 3


def test_what_another_folder_has_made_is_used_where_it_lies(bench: Bench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "variant")
    found = other.take(name="scores/tfidf", sources=(bench.folder,))
    assert (other.made, found.folder.path) == (0, bench.folder.path)
    assert found.value.drop("seed").equals(TABLE)
    assert not other.folder.path.exists()
    # What another run lacks or has lost is made in the own folder.
    assert other.take(seed=1, sources=(bench.folder,)).folder.path == other.folder.path
    (bench.folder.scores / "tfidf.parquet").unlink()
    assert other.take(sources=(bench.folder,)).path == other.folder.scores / "tfidf.parquet"
    assert other.made == 2


def test_the_content_is_what_the_digest_says(bench: Bench, tmp_path: Path) -> None:
    same, other = Bench(tmp_path / "same"), Bench(tmp_path / "other")
    assert same.take().digest == bench.take().digest
    assert other.take(seed=1).digest != bench.take().digest


def test_a_step_that_dies_before_its_entry_is_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new table lies there already, and the manifest tells of the old one."""

    class DyingError(Exception):
        pass

    def die(*_: object) -> None:
        raise DyingError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_entries", die)
        with pytest.raises(DyingError):
            bench.take(seed=1)
    write_text("begun", bench.folder.checkpoints / "state")
    assert bench.take(seed=1).value["seed"].to_list() == [1, 1]
    assert bench.made == 3
    assert not bench.folder.checkpoints.exists(), "what was kept to go on from is of no use any more"
    assert bench.take().value["seed"].to_list() == [0, 0]


def test_two_processes_that_write_into_one_manifest_lose_no_entry(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trsr.artifacts import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "for step in range(40): folder.mark_complete(f'{sys.argv[2]}{step}', sys.argv[2], [], 0)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path), name]) for name in ("one", "two")
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    written = RunFolder(tmp_path).entries()
    assert set(written) == {f"{name}{step}" for name in ("one", "two") for step in range(40)}


@pytest.mark.parametrize(
    ("named", "read", "told"),
    [
        (("seed",), lambda config: config.data, "data"),
        (("summary.paradigm",), lambda config: config.summary.writer.kind, "summary.writer"),
        (("prompt.domain",), lambda config: config.ranking_fields, "prompt.item_fields|items"),
        ((), lambda config: config.folder, "out"),
    ],
)
def test_a_setting_that_a_step_does_not_name_is_not_shown(
    named: tuple[str, ...], read: Callable[[Config], object], told: str
) -> None:
    with pytest.raises(LookupError, match=f"the step reads the setting ({told}), which it doesn't name"):
        read(only(Config(), *named))


def test_a_step_of_a_run_that_reads_what_it_does_not_name_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever lets preparation read one more setting must name it, or a changed one would pass unnoticed."""

    def prepare_by_epochs(config: Config) -> object:
        return prepare_data(config) if config.training.epochs else None

    monkeypatch.setattr(prepare_module.data, "prepare", prepare_by_epochs)
    with pytest.raises(LookupError, match="reads the setting training, which it doesn't name"):
        prepare_module.prepare(Work(small_config(tmp_path), RunFolder(tmp_path), lambda line: None))
    assert not RunFolder(tmp_path).manifest.exists()


def test_processes_that_train_together_write_once_and_read_what_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.take(name="summaries", partial=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    before = bench.folder.manifest.read_bytes()
    write_text("begun", bench.folder.checkpoints / "state")
    assert bench.take(name="summaries", together=True).entry.is_partial
    assert bench.made == 1
    bench.take(name="model", together=True)
    assert bench.made == 2
    assert bench.folder.manifest.read_bytes() == before
    assert bench.folder.checkpoints.exists()
