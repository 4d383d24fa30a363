"""Rows of the protocols, worked out by hand, and what of a measured row training sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from trsr.config.load import load
from trsr.data.dataset import Dataset
from trsr.data.prepare import Prepared, choose
from trsr.data.readers.registry import read
from trsr.errors import ConfigError, DataError

Write = Callable[[Mapping[str, str | bytes]], Path]


def shop(histories: Mapping[str, list[str]], times: Mapping[str, list[int]] | None = None) -> Dataset:
    """A shop of 26 items a to z."""
    rows = {
        "user_id": list(histories),
        "item_ids": list(histories.values()),
        "times": [times[user] if times else None for user in histories],
    }
    frame = pl.DataFrame(
        rows, schema={"user_id": pl.String, "item_ids": pl.List(pl.String), "times": pl.List(pl.Int64)}
    )
    letters = [chr(ord("a") + n) for n in range(26)]
    return Dataset(pl.DataFrame({"item_id": letters, "title": letters}), frame)


def chosen(dataset: Dataset, **settings: Any) -> Prepared:
    """Prepare it, with few negatives."""
    given = {"history": {"min": 2, "max": 5}, "candidates": {"negatives": 2}, **settings}
    return choose(dataset, (), load(overrides=given))


def rows_of(prepared: Prepared, split: str) -> list[tuple[str, str, str, str]]:
    """Each row of a split: its id, whose it is, the history as a word, the target."""
    found = prepared.histories.filter(pl.col("split") == split).sort("user_id")
    return [
        (user, person, "".join(history), target)
        for user, person, history, target in found.select(
            "user_id", "person", "history", "target"
        ).iter_rows()
    ]


SIX = {"ann": list("abcdef"), "bob": list("bdf"), "cid": list("aceg")}
WHEN = {"ann": [1, 2, 3, 11, 21, 22], "bob": [4, 5, 23], "cid": [6, 7, 12, 13]}
ROLLING = {"protocol": "rolling", "valid": 0.3, "test": 0.3}


def test_rolling_rows_are_cut_by_time_and_all_that_came_before_is_their_history() -> None:
    prepared = chosen(shop(SIX, WHEN), split=ROLLING)
    # Ten interactions come after a user's first: three for each measured part.
    assert rows_of(prepared, "test") == [
        ("ann#5", "ann", "abcd", "e"),
        ("ann#6", "ann", "bcde", "f"),
        ("bob#3", "bob", "bd", "f"),
    ]
    assert rows_of(prepared, "valid") == [
        ("ann#4", "ann", "abc", "d"),
        ("cid#3", "cid", "ac", "e"),
        ("cid#4", "cid", "ace", "g"),
    ]


def test_training_ends_before_the_first_measured_interaction_of_a_user() -> None:
    prepared = chosen(shop(SIX, WHEN), split=ROLLING)
    assert rows_of(prepared, "train") == [
        ("ann", "ann", "ab", "c"),
        ("bob", "bob", "b", "d"),
        ("cid", "cid", "a", "c"),
    ]
    moved = shop({**SIX, "ann": list("abcxyz"), "bob": list("bdz")}, WHEN)
    assert rows_of(chosen(moved, split=ROLLING), "train") == rows_of(prepared, "train")


def test_rolling_needs_times_or_files_that_say_what_is_measured() -> None:
    with pytest.raises(DataError, match="3 of 3 users have none"):
        chosen(shop(SIX), split=ROLLING)


def test_files_of_rolling_rows_say_themselves_which_rows_are_measured(write: Write) -> None:
    head = "user_id,history_item_title,item_title,history_item_id,item_id\n"

    def line(user: str, history: list[int], target: int) -> str:
        return f'{user},"[]",x,"{history}",{target}\n'

    folder = write(
        {
            "items.json": "{" + ", ".join(f'"{n}": {{"title": "t{n}"}}' for n in range(9)) + "}",
            "valid.csv": head + line("u", [0, 1], 2) + line("w", [4], 5),
            "test.csv": head + line("u", [0, 1, 2], 3) + line("v", [6, 7, 8], 1),
        }
    )
    source = load(overrides={"data": {"format": "amazon_5core", "path": str(folder)}}).data
    dataset, _ = read(source)  # type: ignore[arg-type]
    prepared = chosen(dataset, split={"protocol": "rolling"})
    assert rows_of(prepared, "valid") == [("u#3", "u", "01", "2"), ("w#2", "w", "4", "5")]
    assert rows_of(prepared, "test") == [("u#4", "u", "012", "3"), ("v#4", "v", "678", "1")]
    assert rows_of(prepared, "train") == [("u", "u", "0", "1"), ("v", "v", "67", "8")]


def test_the_last_two_items_of_everybody_are_targets_and_train_nothing() -> None:
    last = {"protocol": "leave_last_out"}
    prepared = chosen(shop(SIX), split=last, history={"min": 4, "max": 5})
    assert rows_of(prepared, "test") == [("ann#6", "ann", "bcde", "f"), ("cid#4", "cid", "ace", "g")]
    assert rows_of(prepared, "valid") == [("ann#5", "ann", "abcd", "e"), ("cid#3", "cid", "ac", "e")]
    learnt = dict(prepared.background.iter_rows())
    assert rows_of(prepared, "train") == [("ann", "ann", "abc", "d")]
    assert learnt == {"cid": ["a", "c"], "bob": ["b", "d", "f"]}
    with pytest.raises(DataError, match="must be 4 or more"):
        chosen(shop(SIX), split=last)


NEWS = "".join(f"N{n}\tnews\tlocal\ttitle {n}\tabout {n}\t\t\t\n" for n in range(1, 10))
TRAINING = "1\tU1\t11/12/2019 2:14:46 PM\tN1 N2 N3\tN4-1 N5-0\n"
TEST = "7\tU2\t11/15/2019 8:00:00 AM\tN1 N2\tN6-0 N7-1 N8-1 N9-0\n8\tU2\t11/15/2019 9:00:00 AM\tN1\tN6-1\n"
VALID = (
    "impression_id,history_news_id,candidate_news_id,label\n"
    '5,"N2\nN3","N4\nN5\nN6",C2\n'
)  # fmt: skip


def mind(
    write: Write, valid: Sequence[str] = ("valid.csv",), test: str = "test.tsv", **files: str
) -> Prepared:
    """Prepare impressions; the two measured files are of either form."""
    folder = write(
        {"news.tsv": NEWS, "behaviors.tsv": TRAINING, "valid.csv": VALID, "test.tsv": TEST} | files
    )
    data = {
        "format": "mind",
        "path": str(folder),
        "valid": [str(folder / name) for name in valid],
        "test": str(folder / test),
    }
    dataset, findings = read(load(overrides={"data": data}).data)  # type: ignore[arg-type]
    config = load(
        overrides={
            "history": {"min": 2, "max": 5},
            "split": {"protocol": "impressions"},
            "candidates": {"negatives": 2, "sampler": "impressions"},
        }
    )
    return choose(dataset, findings, config)


def test_impressions_keep_what_was_shown_and_all_that_was_clicked(write: Write) -> None:
    prepared = mind(write)
    asked = prepared.candidates.filter(pl.col("split") != "train").sort("user_id")
    assert asked.select("user_id", "candidates", "positives").rows() == [
        ("test:7", ["N6", "N7", "N8", "N9"], ["N7", "N8"]),
        ("valid:5", ["N4", "N5", "N6"], ["N5"]),
    ]
    assert rows_of(prepared, "test") == [("test:7", "U2", "N1N2", "N7")]
    assert rows_of(prepared, "valid") == [("valid:5", "valid:5", "N2N3", "N5")]
    assert rows_of(prepared, "train") == [("U1", "U1", "N1N2N3", "N4")]
    [left_out] = [found for found in prepared.findings if found.rule == "one-sided-impression"]
    assert left_out.count == 1


def test_a_test_impression_with_an_unknown_candidate_is_refused_with_its_line(write: Write) -> None:
    with pytest.raises(DataError, match=r"test.tsv:1: the candidate 'N77' .* data.texts"):
        mind(write, **{"test.tsv": TEST.replace("N9", "N77")})
    with pytest.raises(DataError, match="names candidate 9 of 3"):
        mind(write, **{"valid.csv": VALID.replace("C2", "C9")})


# Two rows of one person; N70 to N72 have no text, and the third row has nothing else beside its click.
SHOWN = (
    "5\tU1\t11/12/2019 2:14:46 PM\tN1 N2 N3\tN70-0 N4-1 N5-0 N71-1 N6-1\n"
    "6\tU1\t11/12/2019 3:14:46 PM\tN1 N2 N3\tN7-1 N8-0\n"
    "7\tU3\t11/12/2019 4:14:46 PM\tN2 N9\tN7-1 N72-0\n"
)
BOTH = ("valid.csv", "behaviors.tsv")


def test_impressions_of_the_training_file_validate_beside_others(write: Write) -> None:
    prepared = mind(write, BOTH, **{"behaviors.tsv": SHOWN})
    # An id stands in both files, and names two rows.
    assert rows_of(prepared, "valid") == [
        ("valid2:5", "U1", "N1N2N3", "N4"),
        ("valid2:6", "U1", "N1N2N3", "N7"),
        ("valid:5", "valid:5", "N2N3", "N5"),
    ]
    asked = prepared.candidates.filter(user_id="valid2:5").select("candidates", "positives").row(0)
    assert asked == (["N4", "N5", "N6"], ["N4", "N6"])
    told = {finding.rule: (finding.count, finding.action) for finding in prepared.findings}
    assert told["unknown-candidate"] == (3, "dropped")
    assert told["one-sided-impression"] == (2, "dropped")  # one of the test, as before
    assert told["measured-click"] == (5, "noted")


def test_clicks_that_are_measured_train_nothing(write: Write) -> None:
    prepared = mind(write, BOTH, **{"behaviors.tsv": SHOWN})
    assert rows_of(prepared, "train") == [("U1", "U1", "N1N2", "N3"), ("U3", "U3", "N2", "N9")]
    # Whoever was clicked instead, and however often, training sees the same.
    moved = SHOWN.replace("N4-1 N5-0", "N4-0 N5-1").replace("N7-1 N8-0", "N7-0 N8-1")
    other = mind(write, BOTH, **{"behaviors.tsv": moved})
    assert rows_of(other, "valid") != rows_of(prepared, "valid")
    assert rows_of(other, "train") == rows_of(prepared, "train")
    assert other.background.equals(prepared.background)
    # A later row's longer history holds what was clicked before.
    longer = SHOWN.replace("3:14:46 PM\tN1 N2 N3", "3:14:46 PM\tN1 N2 N3 N4 N6")
    assert rows_of(mind(write, BOTH, **{"behaviors.tsv": longer}), "train") == rows_of(prepared, "train")


def test_a_training_file_that_is_the_test_trains_by_its_histories_alone(write: Write) -> None:
    assert rows_of(mind(write), "train") == [("U1", "U1", "N1N2N3", "N4")]
    (write({}) / "link.tsv").symlink_to("behaviors.tsv")
    assert rows_of(mind(write, test="link.tsv"), "train") == [("U1", "U1", "N1N2", "N3")]


@pytest.mark.parametrize(
    ("valid", "told"),
    [
        (["a.tsv", "a.tsv"], "valid must name each once"),
        (["a.tsv", "t.tsv"], "valid and test must be different files"),
        ([], "valid and test go together"),
    ],
)
def test_measured_files_are_named_once(valid: list[str], told: str) -> None:
    data = {"format": "mind", "path": "raw", "valid": valid, "test": "t.tsv"}
    with pytest.raises(ConfigError, match=told):
        load(overrides={"data": data})
    one = load(overrides={"data": {**data, "valid": "a.tsv"}}).data
    assert one.valid == (Path.cwd() / "a.tsv",)  # type: ignore[attr-defined]
    none = load(overrides={"data": {**data, "valid": None, "test": None}}).data
    assert none.valid == ()  # type: ignore[attr-defined]


LISTED = {f"u{n}": list("abcd")[n % 3 :] + list("efg") for n in range(40)}


def of_file(path: Path, negatives: int = 2) -> Prepared:
    rule = {"negatives": negatives, "sampler": "file", "file": str(path)}
    return chosen(shop(LISTED), candidates=rule, split={"valid": 0.3, "test": 0.2})


def test_users_of_a_file_are_the_test_users_and_have_its_candidates(tmp_path: Path) -> None:
    path = tmp_path / "lists.tsv"
    path.write_text("u3\tz g y x\nu5\tx w v\n", encoding="utf-8")
    prepared = of_file(path)
    asked = prepared.candidates.filter(pl.col("split") == "test")
    found = {user: set(row) for user, row in asked.select("user_id", "candidates").iter_rows()}
    assert found == {"u3": {"g", "z", "y"}, "u5": {"g", "x", "w"}}
    others = prepared.histories.filter(pl.col("split") != "test")["user_id"]
    assert len(others) == 38
    table = tmp_path / "lists.parquet"
    pl.DataFrame({"user_id": ["u3"] * 3 + ["u5"] * 2, "item_id": list("zyxxw")}).write_parquet(table)
    assert of_file(table).candidates.equals(prepared.candidates)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("u3\tz y\nstranger\tz y\n", "1 of 2 users take no part, such as 'stranger'"),
        ("u3\tz y\nu5\tz ZZ\n", "lists.tsv:2: user 'u5' has the candidate 'ZZ'"),
        ("u3\tz g\n", "lists.tsv:1: user 'u3' has 1 candidates beside the target"),
        ("u3 z y\n", "lists.tsv:1: must be a user, a tab, and item ids"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "lists.tsv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        of_file(path)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"split": {"protocol": "impressions"}},
        {"candidates": {"sampler": "impressions"}},
        {"candidates": {"sampler": "file"}},
        {"split": {"protocol": "rolling"}, "candidates": {"sampler": "file", "file": "x.tsv"}},
        {"split": {"protocol": "rolling"}, "history": {"users": 50}},
    ],
)
def test_settings_of_two_protocols_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"together|leave it out|set split\.protocol"):
        load(overrides=settings)
