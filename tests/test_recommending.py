"""Recommendations out of the whole catalogue, of a run with a fused ranker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from trsr import Recommender
from trsr.artifacts import RunFolder
from trsr.bundle import save_bundle
from trsr.config import Config
from trsr.config.load import load_run
from trsr.errors import ArtifactError, ConfigError, DataError
from trsr.recommend_table import read_users, recommend_table
from trsr.recommending import CatalogueRanker, Wanted
from trsr.scorer import Request


@pytest.fixture(scope="module")
def folder(fused_run: tuple[Config, RunFolder]) -> RunFolder:
    return fused_run[1]


@pytest.fixture(scope="module")
def recommender(folder: RunFolder) -> Iterator[Recommender]:
    with Recommender.load(folder.path) as recommender:
        yield recommender


@pytest.fixture(scope="module")
def users(folder: RunFolder) -> list[str]:
    histories = pl.read_parquet(folder.histories)
    return histories.filter(split="test")["user_id"].to_list()


class Clock:
    """Goes on by one step whenever it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def ids(found: object) -> list[str]:
    return [item.item_id for item in found.items]  # type: ignore[attr-defined]


def test_the_run_measures_what_is_recommended(
    folder: RunFolder, recommender: Recommender, users: list[str]
) -> None:
    ranks = pl.read_parquet(folder.scores / "fused.catalogue.parquet").filter(split="test")
    targets = dict(pl.read_parquet(folder.histories).select("user_id", "target").iter_rows())
    for user in users:
        found = recommender.recommend(user=user, k=20)
        [row] = ranks.filter(user_id=user).to_dicts()
        assert [item.score for item in found.items] == sorted((i.score for i in found.items), reverse=True)
        if targets[user] in ids(found):
            own = next(item.score for item in found.items if item.item_id == targets[user])
            assert sum(item.score > own + 1e-9 for item in found.items) == row["recommended_above"]
        else:
            assert row["recommended_above"] == 20
        new = [item for item in ids(found) if item not in recommender.users.get(user).history]
        places = [recommender.catalogue.ids[place] for place in row["retrieved"]]
        assert set(places[:3]) <= set(new)


def test_many_are_recommended_what_each_is_alone(recommender: Recommender, users: list[str]) -> None:
    many = recommender.recommend_to([(user, None, None) for user in users[:4]], Wanted(5))
    for user, found in zip(users, many, strict=False):
        assert ids(found) == ids(recommender.recommend(user=user, k=5))


def test_an_explanation_adds_up_and_changes_nothing(recommender: Recommender, users: list[str]) -> None:
    told = recommender.recommend(user=users[0], k=20, explain=True)
    assert ids(told) == ids(recommender.recommend(user=users[0], k=20))
    sums = [sum(voice.adds for voice in item.voices) for item in told.items]
    assert sums == sorted(sums, reverse=True)
    names = [voice.system for voice in told.items[0].voices]
    assert names == [
        "language_model", "sasrec_text", "itemknn", "tfidf", "popularity", "cold item", "in the history",
    ]  # fmt: skip
    row = recommender.users.get(users[0])
    request = Request(users[0], row.history, [told.items[0].item_id], row.summary)
    again = recommender.scorer.explain(request, catalogue=True)
    assert again.score == pytest.approx(told.items[0].score, abs=1e-6)
    assert [voice.adds for voice in again.voices] == pytest.approx(
        [voice.adds for voice in told.items[0].voices], abs=1e-5
    )


def test_repeats_are_left_out_or_ranked_as_all_others(recommender: Recommender, users: list[str]) -> None:
    history = set(recommender.users.get(users[0]).history)
    never = recommender.recommend(user=users[0], k=20, repeats="never")
    assert not history & {*ids(never)}
    always = recommender.recommend(user=users[0], k=20, repeats="always")
    assert history & {*ids(always)}


def test_what_there_is_no_time_for_is_left_out_and_told(recommender: Recommender, users: list[str]) -> None:
    row = recommender.users.get(users[0])
    request = Request(users[0], row.history, (), row.summary)

    def recommended(step: float, limit: float | None) -> tuple[int, int, tuple[str, ...], list[str]]:
        ranker = CatalogueRanker(recommender.bundle, recommender.scorer, Clock(step))
        [found] = ranker.recommend([request], Wanted(5, items=60, milliseconds=limit, repeats="never"))
        return found.read, found.unread, found.notes, ids(found)

    whole = recommended(0.0, None)
    assert whole[1:3] == (0, ())
    assert recommended(0.0, 1.0) == whole  # part by part, and all in time
    late = recommended(1.0, 1.0)  # the first part is read, however late it is
    assert late[:2] == (25, whole[0] - 25)
    assert late[2] == (f"{late[1]} of the retrieved items are left out, unread within 1 ms",)
    assert len(late[3]) == 5
    # Two looks at the clock pass before a part, one during it: the second part would end in its 7th second.
    assert recommended(1.0, 6500.0)[0] > 25
    many = CatalogueRanker(recommender.bundle, recommender.scorer, Clock(1.0))
    [found] = many.recommend([request], Wanted(40, items=60, milliseconds=1.0, repeats="never"))
    assert (found.read, len(found.items)) == (40, 40)  # as many as are wanted


def test_filters_hold(folder: RunFolder, recommender: Recommender, users: list[str]) -> None:
    items = pl.read_parquet(folder.items)
    category = items["category"][0]
    of_it = set(items.filter(category=category)["item_id"])
    allowed, denied = items["item_id"].to_list()[:30], items["item_id"].to_list()[:3]
    found = recommender.recommend(user=users[0], k=20, where={"category": [f" {category.upper()} "]})
    assert {*ids(found)} <= of_it
    found = recommender.recommend(user=users[0], k=50, items=50, allow=allowed, deny=denied)
    assert {*ids(found)} <= {*allowed} - {*denied}
    history = recommender.users.get(users[0]).history
    assert {*ids(found)} | {*denied} >= {*allowed} - {*history}
    with pytest.raises(DataError, match="no item may be recommended"):
        recommender.recommend(user=users[0], allow=[history[0]], repeats="never")


def test_texts_that_the_catalogue_lacks_may_stand_in_a_history(recommender: Recommender) -> None:
    item = recommender.catalogue.item(recommender.catalogue.ids[4])
    texts = {name: text for name, text in item.fields.items() if name != "price"}
    found = recommender.recommend([texts], k=20, summary="")
    assert item.id in ids(found)


def test_a_newcomer_is_recommended_something_and_always_the_same(recommender: Recommender) -> None:
    found = recommender.recommend([], k=3)
    assert len({*ids(found)}) == 3
    assert all(0 < item.score < 1 for item in found.items)
    assert ids(found) == ids(recommender.recommend([], k=3))
    with pytest.raises(DataError, match=r"a history .* or a user"):
        recommender.recommend()


def test_without_a_fused_ranker_texts_retrieve(folder: RunFolder, tmp_path: Path, users: list[str]) -> None:
    shutil.copytree(folder.path, tmp_path / "run")
    copied = RunFolder(tmp_path / "run")
    assert save_bundle(load_run(copied.config), copied, fused=False)
    with Recommender.load(tmp_path / "run") as alone:
        assert alone.whole.retrievers == ("tfidf",)
        found = alone.recommend(user=users[0], k=5, items=30)
        history = set(alone.users.get(users[0]).history)
    assert found.ranked_by == "language_model"
    assert not history & {*ids(found)}
    assert "hasn't learnt whether people take things again" in found.notes[0]
    assert all(item.score == item.p_yes for item in found.items)
    # The language model's own order of what the companions of a fused ranker retrieve.
    with Recommender.load(folder.path, "language_model") as ordering:
        assert len(ordering.whole.retrievers) == 4
        assert ordering.recommend(user=users[0], k=5).ranked_by == "language_model"


@pytest.mark.parametrize("wish", [{"k": 0}, {"items": -1}, {"milliseconds": 0.0}, {"repeats": "sometimes"}])
def test_wishes_that_can_t_be_are_told(wish: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Wanted(**wish)  # type: ignore[arg-type]


def test_a_table_goes_on_where_it_was_killed(
    recommender: Recommender, users: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, frame = tmp_path / "out.parquet", pl.DataFrame({"user_id": [*users[:4], "nobody"]})
    asked: list[int] = []
    real = recommender.recommend_to

    def killed(part: list[tuple[str, None, None]], wanted: Wanted) -> object:
        asked.append(len(part))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(part, wanted)

    monkeypatch.setattr(recommender, "recommend_to", killed)
    with pytest.raises(KeyboardInterrupt):
        recommend_table(recommender, frame, out, Wanted(3), part=2)
    assert not out.exists()
    with pytest.raises(ArtifactError, match="other asked"):
        recommend_table(recommender, frame, out, Wanted(4), part=2)
    with pytest.raises(ArtifactError, match="other users"):
        recommend_table(recommender, frame.head(3), out, Wanted(3), part=2)
    written = recommend_table(recommender, frame, out, Wanted(3), part=2)
    assert asked[:4] == [2, 2, 2, 1]  # the part that was under way, and the last: its user, once more alone
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]
    table = pl.read_parquet(out)
    for user in users[:4]:
        mine = table.filter(user_id=user)
        assert mine["rank"].to_list() == [1, 2, 3]
        assert mine["item_id"].to_list() == ids(recommender.recommend(user=user, k=3))
    assert (written.users, written.failed["user_id"].to_list()) == (4, ["nobody"])
    assert table.filter(user_id="nobody")["item_id"].to_list() == [None]


def test_tables_of_users_are_read_in_their_forms(tmp_path: Path) -> None:
    written = tmp_path / "users.csv"
    written.write_text('user_id,history\n7,"a, b"\n8,"[""c""]"\n9,\n')
    frame = read_users(written)
    assert frame.rows() == [("7", ["a", "b"]), ("8", ["c"]), ("9", [])]
    frame.with_columns(pl.col("user_id").cast(pl.Int64)).write_parquet(tmp_path / "users.parquet")
    assert read_users(tmp_path / "users.parquet").equals(frame)
    written.write_text("user_id,history\n7,[[1]]\n")
    with pytest.raises(DataError, match=r"users.csv:2: no list of item ids"):
        read_users(written)
    written.write_text("user,history\n7,a\n")
    with pytest.raises(DataError, match="no column 'user_id', but user, history"):
        read_users(written)
