"""Atomic files as RecBole reads them: tab-separated, a type behind every name, the split as it is."""

import csv
from pathlib import Path

import polars as pl
import pytest
import yaml

from trsr.interop.candidates import Frozen, from_plain
from trsr.interop.export import write_recbole


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture
def written(frozen: Frozen, out: Path) -> Path:
    paths = write_recbole(frozen, "shop", out)
    assert all(path.exists() for path in paths)
    return out


def _sequences(rows: list[dict[str, str]]) -> dict[str, list[list[str]]]:
    found: dict[str, list[list[str]]] = {}
    for row in rows:
        items = [*row["item_id_list:token_seq"].split(" "), row["item_id:token"]]
        user = from_plain(pl.Series([row["user_id:token"]]))[0]
        found.setdefault(user, []).append(from_plain(pl.Series(items)).to_list())
    return found


@pytest.mark.parametrize("split", ["valid", "test"])
def test_measured_users_give_one_row_with_their_target(split: str, written: Path, frozen: Frozen) -> None:
    got = _sequences(_read(written / "shop" / f"shop.{split}.inter"))
    histories = frozen.prepared.histories.filter(pl.col("split") == split)
    want = {
        user: [[*history, target]]
        for user, history, target in histories.select("user_id", "history", "target").iter_rows()
    }
    assert got == want


def test_training_rows_are_all_positions_of_training_and_background_users(
    written: Path, frozen: Frozen
) -> None:
    got = _sequences(_read(written / "shop" / "shop.train.inter"))
    training = frozen.prepared.histories.filter(pl.col("split") == "train")
    whole = dict(training.select("user_id", pl.concat_list("history", "target")).iter_rows())
    whole |= dict(frozen.prepared.background.select("user_id", "item_ids").iter_rows())
    assert frozen.prepared.background.height > 0
    assert got == {user: [items[:end] for end in range(2, len(items) + 1)] for user, items in whole.items()}


def test_no_user_is_in_two_files(written: Path) -> None:
    users = [
        set(_sequences(_read(written / "shop" / f"shop.{split}.inter")))
        for split in ("train", "valid", "test")
    ]
    assert len(set.union(*users)) == sum(map(len, users))


def test_items_have_all_fields_in_one_line_each(written: Path, frozen: Frozen) -> None:
    rows = _read(written / "shop" / "shop.item")
    items = frozen.prepared.items
    assert (
        from_plain(pl.Series([row["item_id:token"] for row in rows])).to_list() == items["item_id"].to_list()
    )
    assert set(rows[0]) == {"item_id:token", *(f"{name}:token_seq" for name in items.columns[1:])}
    assert rows[0]["title:token_seq"].endswith(" 19' wide")


def test_settings_name_what_is_there(written: Path) -> None:
    settings = yaml.safe_load((written / "recbole.yaml").read_text(encoding="utf-8"))
    folder = Path(settings["data_path"]) / settings["dataset"]
    for part in settings["benchmark_filename"]:
        header = (folder / f"{settings['dataset']}.{part}.inter").read_text(encoding="utf-8").split("\n")[0]
        assert [name.split(":")[0] for name in header.split("\t")] == settings["load_col"]["inter"]
    header = (folder / f"{settings['dataset']}.item").read_text(encoding="utf-8").split("\n")[0]
    assert [name.split(":")[0] for name in header.split("\t")] == settings["load_col"]["item"]


def test_candidates_are_the_frozen_ones(written: Path, frozen: Frozen) -> None:
    rows = _read(written / "candidates.tsv")
    got = {(row["user_id:token"], row["item_id:token"], row["sampler:token"]) for row in rows}
    assert len(got) == len(rows) == sum(frozen.pairs(sampler).height for sampler in frozen.candidates)
