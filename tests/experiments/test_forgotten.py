"""A user who is forgotten stands in no file of the run folder, whatever was done with the run before."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from small_comparison import Finished

from trsr.append import append_events
from trsr.artifacts import RunFolder, write_parquet, write_text
from trsr.interop.export import DataTool, export
from trsr.interop.importing import import_scores
from trsr.pipeline import run
from trsr.records import BLOCK_SUMMARIES, ITEM, SPLIT, SUMMARY, USER
from trsr.stages.forget import forget_user
from trsr.users import Users


@pytest.fixture(scope="module")
def used(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that was compared, exported, imported into, appended to, and killed in a write."""
    folder = RunFolder(tmp_path_factory.mktemp("used") / "run")
    shutil.copytree(finished.config.folder, folder.path)
    everybody = finished.config.evaluation.model_copy(update={"report_users": 80})
    run(
        finished.config.model_copy(update={"out": folder.path, "evaluation": everybody}),
        say=lambda line: None,
    )
    for tool in get_args(DataTool):
        export(folder, tool, folder.path / "exported" / tool)
    scored = folder.path.parent / "scored.parquet"
    pairs = pl.read_parquet(folder.path / "exported" / "rectools" / "candidates.parquet")
    pairs.select(USER, ITEM, pl.lit(0.5).alias("score")).unique().write_parquet(scored)
    import_scores(folder, scored, "outside")
    users = pl.read_parquet(folder.summaries)[USER]
    [item] = pl.read_parquet(folder.items)[ITEM].head(1)
    events = folder.path.parent / "events.csv"
    pl.DataFrame({USER: users, ITEM: [item] * len(users)}).write_csv(events)
    append_events(folder.path, events)
    shutil.copyfile(folder.summaries, folder.path / ".summaries.parquet.abcd1234.partial")
    return folder


def texts(folder: RunFolder) -> Iterator[tuple[Path, str]]:
    """Give every file as bytes, and tables once more as what they hold."""
    for path in folder.path.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes().decode("utf-8", "replace")
            if path.suffix == ".parquet":
                yield path, str(pl.read_parquet(path).to_dicts())


def traces(folder: RunFolder, known: set[str]) -> set[str]:
    return {
        str(path.relative_to(folder.path)) for path, text in texts(folder) if any(k in text for k in known)
    }


def test_a_search_over_every_byte_finds_nothing_of_a_forgotten_user(used: RunFolder) -> None:
    page = (used.path / "comparison" / "comparison.html").read_text(encoding="utf-8")
    examples = used.findings.read_text(encoding="utf-8")
    test = pl.read_parquet(used.histories).filter(pl.col(SPLIT) == "test")[USER]
    on_page = next(user for user in test if user in page)
    in_findings = next(user for user in pl.read_parquet(used.histories)[USER] if user in examples)
    figures = {path: path.read_bytes() for path in used.path.rglob("*") if path.name == "metrics.json"}
    before = traces(used, {on_page})
    for place in (
        "comparison/comparison.html",
        "report.html",
        "imported/outside.parquet",
        "users.sqlite",
    ):
        assert place in before
    assert {
        "exported/trec/qrels.test.txt",
        "comparison/scores/sasrec/seed-0.parquet",
        "scores/recurrent.parquet",
    } <= before
    for user in (on_page, in_findings):
        rows = [
            row
            for table in used.path.rglob("*.parquet")
            if {USER, SUMMARY} <= set(pl.read_parquet_schema(table))
            for row in pl.read_parquet(table).filter(pl.col(USER) == user).iter_rows(named=True)
        ]
        others = pl.read_parquet(used.summaries).filter(pl.col(USER) != user)
        shared = {*others[SUMMARY], *others[BLOCK_SUMMARIES].explode()}
        with Users(used.users) as users:
            appended = users.get(user)
        own = {text for row in rows for text in (row[SUMMARY], *row[BLOCK_SUMMARIES])}
        own = (own | {appended.summary, *appended.blocks}) - shared - {""}
        assert own
        said = forget_user(used, user)
        with Users(used.users) as users:
            assert users.is_current(used)
        assert traces(used, {user, *own}) == set()
        assert any("models below" in line for line in said)
    assert any("examples that name the user" in line for line in said)
    assert {path: path.read_bytes() for path in figures} == figures
    # The runs of the comparison take in what changed, too: nothing is prepared again from data with the user.
    for manifest in used.path.rglob("manifest.json"):
        folder = RunFolder(manifest.parent)
        for name, entry in folder.entries().items():
            gone = [output for output in entry.outputs if not (folder.path / output).exists()]
            assert folder.find(entry.fingerprint) is not None or gone, name
    assert used.find(used.entries()["prepare"].fingerprint) is not None


def test_a_number_in_figures_is_no_user_and_an_unknown_file_is_told(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_parquet(pl.DataFrame({USER: ["7", "8"], SUMMARY: ["Likes tea.", "Likes rum."]}), folder.summaries)
    write_text(json.dumps({"seconds": 7, "name": "seven"}), tmp_path / "seconds.json")
    write_text("user 7 called\n", tmp_path / "notes.txt")
    write_text("<p>Likes&#32;tea.</p>", tmp_path / "a.html")
    write_text("<p>Likes rum.</p>", tmp_path / "b.html")
    write_text("weights", folder.checkpoints / "checkpoint-1" / "model")
    told = "\n".join(forget_user(folder, "7"))
    assert "notes.txt: names the user, and isn't a file that can be made again" in told
    assert "seconds.json" not in told
    assert "a.html: deleted" in told
    assert (tmp_path / "b.html").exists()
    assert not folder.checkpoints.exists()
    assert pl.read_parquet(folder.summaries)[USER].to_list() == ["8"]
    assert forget_user(folder, "9") == []
