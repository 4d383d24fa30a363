"""Texts that are there already: read by user, counted where they are missing, and in no bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from small_run import small_config, small_config_file
from trsr import Recommender
from trsr.append import append_events
from trsr.artifacts import RunFolder, read_parquet
from trsr.cli import app
from trsr.config import Config, load
from trsr.config.summary import TableWriter
from trsr.errors import ConfigError, DataError
from trsr.experiments.tables import select_systems
from trsr.experiments.variants import dimension, form
from trsr.library import prepare, read, write_summaries
from trsr.pipeline import run
from trsr.records import PROFILES
from trsr.summarize.writer import Profiles

LONG = "likes " + "walnut, brass and very old lamps, " * 40


def profiles(path: Path, rows: Sequence[Sequence[str]], columns: str = "user_id,summary") -> Path:
    lines = [",".join(f'"{value}"' for value in row) for row in rows]
    path.write_text("\n".join([columns, *lines]) + "\n", encoding="utf-8")
    return path


def read_texts(path: Path, **settings: Any) -> tuple[dict[str, str], dict[str, int]]:
    texts, findings = Profiles(TableWriter(kind="table", path=path, **settings))._read
    return texts, {finding.rule: finding.count for finding in findings}


def test_ids_stay_as_they_are_written_and_only_the_first_text_of_a_user_counts(tmp_path: Path) -> None:
    rows = [
        ["0007", "first"],
        [" 7 ", "seven"],
        ["0007", "second"],
        ["8", " "],
        ["9", "N/A"],
        ["8", "late"],
        ["", "x"],
    ]
    texts, counts = read_texts(profiles(tmp_path / "p.csv", rows))
    assert texts == {"0007": "first", "7": "seven", "8": "late"}
    assert counts == {"padded-id": 1, "missing-id": 1, "empty-text": 2, "repeated-user": 1}


def test_ids_of_whole_floats_are_read_by_the_rule_for_all_ids(tmp_path: Path) -> None:
    pl.DataFrame({"who": [1.0, 2.0], "text": ["a", "b"]}).write_parquet(tmp_path / "p.parquet")
    texts, counts = read_texts(tmp_path / "p.parquet", user_column="who", text_column="text")
    assert texts == {"1": "a", "2": "b"}
    assert counts == {"float-id": 2}


def test_several_columns_are_joined_in_order_each_after_its_name(tmp_path: Path) -> None:
    rows = [["a", "crime", "", "war"], ["b", "", "", ""]]
    path = profiles(tmp_path / "p.csv", rows, "user_id,likes,mood,dislikes")
    texts, counts = read_texts(path, text_column=("dislikes", "mood", "likes"))
    assert texts == {"a": "dislikes: war\nlikes: crime"}
    assert counts == {"empty-text": 1}


def test_a_text_may_go_over_several_lines(tmp_path: Path) -> None:
    path = profiles(tmp_path / "p.csv", [["a", "## Likes\nold films\n\n## Dislikes\nwar"], ["b", "x"]])
    assert read_texts(path)[0] == {"a": "## Likes\nold films\n\n## Dislikes\nwar", "b": "x"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"p\.csv: no such file; summary\.writer\.path must lead to"),
        ("user_id,text\n1,a\n", r"no column 'summary'; .* Name the right ones in `summary\.writer`"),
        ("user,summary\n1,a\n", r"no column 'user_id'; the columns are 'user', 'summary'"),
        ("user_id,summary\n1,\n2, \n", r"no user has a text in summary; name its column in summary\."),
        ("user_id,summary\n", r"p\.csv"),
        (b"user_id,summary\n1,\x81\x8d\x8f\n", r"p\.csv:2: not UTF-8.* Set summary\.writer\.encoding"),
    ],
)
def test_what_cant_be_read_is_told_with_its_place_and_the_setting_before_the_data_is_read(
    tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    path = tmp_path / "p.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = small_config(tmp_path / "run", summary__writer={"kind": "table", "path": str(path)})
    with pytest.raises(DataError, match=said):
        run(config, until="prepare", say=lambda line: None)
    assert not RunFolder(config.folder).items.exists()


def test_lists_are_no_text(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": ["a"], "summary": [["x"]]}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"column 'summary' holds values of type List.*text_column"):
        read_texts(tmp_path / "p.parquet")


def test_another_encoding_is_set_by_its_own_setting(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes("user_id,summary\n1,映画が好き\n".encode("shift_jis"))
    assert read_texts(tmp_path / "p.csv", encoding="shift_jis")[0] == {"1": "映画が好き"}
    with pytest.raises(ConfigError, match="must be an encoding that Python knows"):
        load(overrides={"summary.writer": {"kind": "table", "path": "p.csv", "encoding": "shift"}})


def test_a_path_is_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    told = "{kind: table, path: texts/p.csv}"
    (tmp_path / "c.yaml").write_text(f"summary: {{writer: {told}}}\nablation: {{writers: [{told}]}}\n")
    config = load(tmp_path / "c.yaml")
    for writer in (config.summary.writer, *config.ablation.writers):
        assert isinstance(writer, TableWriter)
        assert writer.path == tmp_path / "texts" / "p.csv"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, list[str]]:
    """A run with texts, and what it said: two users have none, two of the table are unknown, one is long."""
    folder = tmp_path_factory.mktemp("table")
    users = run(small_config(folder / "first"), until="prepare", say=lambda line: None)
    names = read_parquet(users.histories)["user_id"].to_list()
    rows = [[name, f"Secretly collects {name}-shaped lamps."] for name in names[2:]]
    rows[0][1] = LONG
    path = profiles(folder / "p.csv", [*rows, ["stranger", "likes tea"], ["newcomer", "likes rye"]])
    said: list[str] = []
    config = small_config(folder / "run", summary__writer={"kind": "table", "path": str(path)})
    return run(config, say=said.append), said


def test_what_the_table_lacks_and_what_is_cut_is_said_and_shown(shop: tuple[RunFolder, list[str]]) -> None:
    folder, said = shop
    users = read_parquet(folder.histories).height
    page = folder.report.read_text(encoding="utf-8")
    for told in (
        f"{users - 2} of {users} users have a text in p.csv; when it was written is not known",
        f"2 of {users} users have no text and are ranked from their recent items alone",
        "2 users in p.csv take no part in this run",
        f"1 of {users} texts are longer than prompt.summary_tokens (32): prompts leave out their ends",
    ):
        assert any(told in line for line in said), told
        assert told in page
    assert any("summaries, taken from the table p.csv" in line for line in said)
    summaries = read_parquet(folder.summaries)
    assert (summaries["summary"] == "").sum() == 2
    assert summaries["failed"].unique().to_list() == [""]
    assert summaries["calls"].sum() == 0
    bill = json.loads((folder.path / "bill.json").read_text(encoding="utf-8"))
    assert (bill["planned"]["calls"], bill["actual"]["calls"]) == (0, 0)
    assert (folder.scores / f"{PROFILES}.parquet").exists()


def test_the_bundle_has_no_text_and_no_path_and_ranks_without(shop: tuple[RunFolder, list[str]]) -> None:
    folder, _ = shop
    for path in folder.bundle.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Secretly" not in content
            assert b"p.csv" not in content
    items = read_parquet(folder.items)["item_id"].to_list()
    with Recommender.load(folder.bundle) as recommender:
        assert recommender.rank(history=items[:3], candidates=items[3:6]).summary == ""
        given = recommender.rank(history=items[:3], candidates=items[3:6], summary="likes tea")
    assert given.summary == "likes tea"
    manifest = folder.manifest.read_text(encoding="utf-8")
    assert "Secretly" not in manifest


def test_a_known_user_is_ranked_by_the_text_and_events_take_it_along(
    shop: tuple[RunFolder, list[str]], tmp_path: Path
) -> None:
    folder, _ = shop
    user = read_parquet(folder.histories)["user_id"][5]
    items = read_parquet(folder.items)["item_id"].to_list()
    events = tmp_path / "new.csv"
    events.write_text(f"user_id,item_id\n{user},{items[0]}\nnewcomer,{items[1]}\nnobody,{items[1]}\n")
    written = {summary.user_id: summary.final.text for summary in append_events(folder.path, events)}
    text = f"Secretly collects {user}-shaped lamps."
    assert written == {user: text, "newcomer": "likes rye", "nobody": ""}
    with Recommender.load(folder.path) as recommender:
        assert recommender.rank_user(user).summary == text
        assert recommender.rank(history=items[:3], candidates=items[3:6]).summary == ""


def test_forgetting_needs_no_store_and_says_that_the_table_is_untouched(
    shop: tuple[RunFolder, list[str]],
) -> None:
    folder, _ = shop
    user = read_parquet(folder.histories)["user_id"][7]
    done = CliRunner().invoke(app, ["store", "forget", user, "--run", str(folder.path)])
    assert done.exit_code == 0, done.output
    assert "these runs call no model and there is no store: no answer to delete" in done.output
    assert "nor a table of texts (summary.writer)" in done.output
    assert "names the user" not in done.output
    assert user not in read_parquet(folder.summaries)["user_id"]


def test_other_texts_are_taken_again_and_the_same_ones_are_not(tmp_path: Path) -> None:
    first = run(small_config(tmp_path / "run"), until="prepare", say=lambda line: None)
    names = read_parquet(first.histories)["user_id"].to_list()
    path = profiles(tmp_path / "p.csv", [[name, "a"] for name in names])
    config = small_config(tmp_path / "run", summary__writer={"kind": "table", "path": str(path)})

    def summaries() -> tuple[list[str], set[str]]:
        said: list[str] = []
        folder = run(config, until="summarize", say=said.append)
        return said, set(read_parquet(folder.summaries)["summary"])

    assert summaries()[1] == {"a"}
    assert "summarize: complete, skipped" in summaries()[0]
    profiles(path, [[name, "b"] for name in names])
    assert summaries()[1] == {"b"}


def test_a_table_of_other_ids_is_refused_with_both(tmp_path: Path) -> None:
    path = profiles(tmp_path / "p.csv", [["x1", "a"]])
    config = small_config(tmp_path / "run", summary__writer={"kind": "table", "path": str(path)})
    with pytest.raises(
        DataError, match=r"none of the run's \d+ users has a text: its ids are such as 'x1', "
    ):
        run(config, until="summarize", say=lambda line: None)


def test_the_plan_knows_that_there_are_no_calls_and_how_many_users_have_a_text(tmp_path: Path) -> None:
    first = run(small_config(tmp_path / "first"), until="prepare", say=lambda line: None)
    names = read_parquet(first.histories)["user_id"].to_list()
    path = profiles(tmp_path / "p.csv", [[name, "a"] for name in names[1:]])
    config = small_config_file(tmp_path, summary__writer={"kind": "table", "path": str(path)})
    done = CliRunner().invoke(app, ["plan", str(config), "--json"])
    assert done.exit_code == 0, done.output
    [row] = json.loads(done.stdout.splitlines()[-1]).items()
    assert row[0] == PROFILES
    assert (row[1]["calls"], row[1]["prompt_tokens"]) == (0, 0)
    assert "the summaries are those of the table p.csv" in row[1]["basis"]
    assert f"1 of {len(names)} users have no text" in row[1]["basis"]
    refused = CliRunner().invoke(app, ["plan", str(config), "--measure", "3"])
    assert isinstance(refused.exception, ConfigError)


def test_a_comparison_has_one_form_with_texts_beside_the_whole_history(tmp_path: Path) -> None:
    config = load(overrides={"summary.writer": {"kind": "table", "path": "p.csv"}})
    assert select_systems(config).language_models == ("tallrec", PROFILES)
    assert select_systems(config, ["recurrent"]).language_models == (PROFILES,)
    assert form(config, "profiles").overrides == {"summary.paradigm": "recurrent"}
    with pytest.raises(ConfigError, match=r"profiles reads the texts of a table: name it by summary\.writer"):
        select_systems(Config(), [PROFILES])


def test_the_library_takes_texts_and_warns_of_what_it_found(tmp_path: Path) -> None:
    protocol = prepare(read(Config().data), users=40)
    assert protocol.prepared.histories.height == 40
    names = protocol.prepared.histories["user_id"].to_list()
    path = profiles(tmp_path / "p.csv", [[name, f"text of {name}"] for name in names[1:]])
    with pytest.warns(UserWarning, match="40 users have") as told:
        summaries = write_summaries(protocol, {"kind": "table", "path": str(path)})
    assert len(told) == 2
    assert summaries["summary"].to_list() == ["", *(f"text of {name}" for name in names[1:])]


def test_an_ablation_asks_once_whether_the_texts_help() -> None:
    config = load(overrides={"summary.writer": {"kind": "table", "path": "p.csv"}})
    asked = [value.label for value in dimension("summary", config).values]
    assert asked == ["none", "recurrent"]
    writers = [value.label for value in dimension("writer", config).values]
    assert writers[-1] == "table p.csv: summary"
