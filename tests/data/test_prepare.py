import re
from pathlib import Path

import polars as pl
import pytest

from trsr.artifacts import RunFolder, hash_path
from trsr.baselines.training_data import training_data
from trsr.config import Config
from trsr.config.data import CandidateRule, DemoData, HistoryWindow, SplitRule, TableData
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared, load, prepare, save
from trsr.data.readers.demo import generate
from trsr.errors import ArtifactError, DataError
from trsr.stages.train import learnable_histories

CONFIG = Config(data=DemoData(users=200, items=120))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(CONFIG)


def test_history_and_target_are_the_newest_of_the_data(prepared: Prepared) -> None:
    raw = dict(generate(CONFIG.data).histories.select("user_id", "item_ids").iter_rows())
    for user, history, target in prepared.histories.select("user_id", "history", "target").iter_rows():
        assert [*history, target] == raw[user][-26:]
        assert 10 <= len(history) <= 25


def test_every_user_of_the_data_is_there_or_counted(prepared: Prepared) -> None:
    dropped = sum(finding.count for finding in prepared.findings if finding.action == "dropped")
    assert dropped > 0
    assert prepared.histories.height + dropped == 200


def test_rows_stand_by_rising_user_and_tables_agree(prepared: Prepared) -> None:
    assert prepared.histories["user_id"].is_sorted()
    assert prepared.histories["user_id"].is_unique().all()
    shared = ["user_id", "split", "target"]
    assert prepared.candidates.select(shared).equals(prepared.histories.select(shared))


def test_training_users_have_candidates_too(prepared: Prepared) -> None:
    assert set(prepared.candidates["split"]) == {"train", "valid", "test"}
    assert prepared.candidates["candidates"].list.len().unique().to_list() == [21]


def test_split_by_time_puts_no_training_target_after_a_test_target() -> None:
    config = CONFIG.model_copy(update={"split": SplitRule(by="time")})
    times = generate(config.data).histories.select("user_id", pl.col("times").list.last().alias("last"))
    joined = prepare(config).histories.join(times, on="user_id")
    newest_train = joined.filter(pl.col("split") == "train")["last"].max()
    oldest_test = joined.filter(pl.col("split") == "test")["last"].min()
    assert newest_train <= oldest_test


def test_saved_and_loaded_is_the_same(prepared: Prepared, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(prepared, folder)
    again = load(folder)
    assert again.items.equals(prepared.items)
    assert again.histories.equals(prepared.histories)
    assert again.candidates.equals(prepared.candidates)
    assert again.findings == prepared.findings


def test_the_same_configuration_writes_the_same_bytes(prepared: Prepared, tmp_path: Path) -> None:
    save(prepared, RunFolder(tmp_path / "one"))
    save(prepare(CONFIG), RunFolder(tmp_path / "two"))
    assert hash_path(tmp_path / "one") == hash_path(tmp_path / "two")


def test_a_missing_artifact_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trsr prepare"):
        load(RunFolder(tmp_path))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"rule": "x"}]'])
def test_damaged_findings_are_refused(prepared: Prepared, tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    save(prepared, folder)
    folder.findings.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a list of findings"):
        load(folder)


def test_no_user_left_says_how_long_the_longest_history_is() -> None:
    config = CONFIG.model_copy(update={"history": HistoryWindow(min=99, max=99)})
    with pytest.raises(DataError, match=r"the longest of 200 histories has \d+; lower history.min"):
        prepare(config)


def test_a_target_that_was_taken_before_is_noted(tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": [f"i{k}" for k in range(30)], "title": ["x"] * 30})
    events = [(f"u{user:02d}", f"i{k}", k) for user in range(40) for k in range(11)]
    events.append(("u07", "i3", 99))
    items.write_csv(tmp_path / "items.csv")
    pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row").write_csv(
        tmp_path / "events.csv"
    )
    source = TableData(format="tables", items=tmp_path / "items.csv", events=tmp_path / "events.csv")
    rules = {"candidates": CandidateRule(negatives=5), "split": SplitRule(valid=0.25, test=0.25)}
    findings = prepare(Config(data=source, **rules)).findings
    repeated = [finding for finding in findings if finding.rule == "repeated-target"]
    assert [(finding.count, finding.examples) for finding in repeated] == [(1, ("user u07: item i3",))]


def test_short_histories_are_background_and_count_for_popularity_alone(prepared: Prepared) -> None:
    window = HistoryWindow(min=14, max=26)
    config = Config(data=DemoData(users=400, items=100), history=window)
    with_short = prepare(config)
    assert with_short.background.height > 0
    assert with_short.background["item_ids"].list.len().is_between(2, 13).all()
    assert not set(with_short.background["user_id"]) & set(with_short.histories["user_id"])
    without = prepare(config.model_copy(update={"history": window.model_copy(update={"background": False})}))
    assert without.background.height == 0
    assert without.histories.equals(with_short.histories)
    assert without.candidates.equals(with_short.candidates)


@pytest.mark.parametrize("by", ["time", "hash"])
def test_background_of_a_split_by_time_ends_before_the_first_measured_target(tmp_path: Path, by: str) -> None:
    """Some short histories end early, some on the day of the first target, some go on after all of them."""
    ends = {"early": 5, "before": 2099, "same": 2100, "after": 2101, "last": 9999}
    events = [(f"u{user:02d}", f"i{k}", 100 * user + k) for user in range(40) for k in range(1, 12)]
    events = [(user, item, at + 89 if item == "i11" else at) for user, item, at in events]
    events += [(name, f"of-{name}-{k}", at) for name, end in ends.items() for k, at in ((0, 1), (1, end))]
    items = sorted({item for _, item, _ in events})
    pl.DataFrame({"item_id": items, "title": items}).write_csv(tmp_path / "items.csv")
    table = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    table.sample(fraction=1, shuffle=True, seed=0).write_csv(tmp_path / "events.csv")
    source = TableData(format="tables", items=tmp_path / "items.csv", events=tmp_path / "events.csv")
    rules = {"candidates": CandidateRule(negatives=5), "split": SplitRule(by=by, valid=0.25, test=0.25)}
    made = prepare(Config(data=source, **rules))
    background = made.background["user_id"].to_list()
    if by == "hash":
        assert background == sorted(ends)
        return
    # The first of 20 measured users is the 21st, whose target is taken at 2100.
    measured = made.histories.filter(pl.col("split") != "train")["user_id"].to_list()
    assert measured == [f"u{user:02d}" for user in range(20, 40)]
    assert table.filter(user_id="u20", item_id="i11")["time"].to_list() == [2100]
    assert background == ["before", "early"]
    late = {f"of-{name}-{k}" for name in ("same", "after", "last") for k in (0, 1)}
    learnt = {item for history in learnable_histories(made) for item in history}
    told = training_data(made)
    counted = dict(zip(made.items["item_id"], told.counts, strict=True))
    assert not late & learnt
    assert all(counted[item] == 0 for item in late)
    assert {"of-early-0", "of-before-1"} <= learnt
    # Training users' histories end before it, too.
    last = dict(table.group_by("user_id").agg(pl.col("time").max()).iter_rows())
    trained = made.histories.filter(pl.col("split") == "train")["user_id"]
    assert max(last[user] for user in trained) < 2100


def test_a_refusal_carries_the_findings_of_reading_and_of_choosing(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,N/A\n")
    (tmp_path / "events.csv").write_text("user_id,item_id\nu,a\nu,x\n")
    source = TableData(
        format="tables", items=tmp_path / "items.csv", events=tmp_path / "events.csv", time_column=None
    )
    with pytest.raises(DataError, match="no user is left") as refused:
        prepare(Config(data=source))
    rules = [finding.rule for finding in refused.value.findings]
    assert rules == ["null-word", "empty-text", "unknown-item", "unknown-id", "short-history"]


def trial(users: int | None, seed: int = 0, **more: object) -> Prepared:
    settings = {"history": HistoryWindow(users=users), "seed": seed, **more}
    return prepare(CONFIG.model_copy(update=settings))


@pytest.mark.parametrize("by", ["hash", "time"])
def test_users_of_a_trial_have_the_part_target_and_candidates_of_the_whole_run(by: str) -> None:
    split = SplitRule(by=by)
    whole, few = trial(None, split=split), trial(50, split=split)
    assert few.histories.height == 50
    assert few.items.equals(whole.items)
    assert few.histories.equals(
        whole.histories.join(few.histories.select("user_id"), on="user_id", how="semi")
    )
    assert few.candidates.equals(
        whole.candidates.join(few.histories.select("user_id"), on="user_id", how="semi")
    )
    assert set(few.histories["split"]) == {"train", "valid", "test"}
    [told] = [finding for finding in few.findings if finding.rule == "trial"]
    assert told.message.startswith(f"50 of {whole.histories.height} users taken by seed 0")


def test_a_larger_trial_holds_a_smaller_one_and_another_seed_takes_others() -> None:
    small, large, other = (
        set(prepared.histories["user_id"]) for prepared in (trial(40), trial(80), trial(40, seed=1))
    )
    assert small < large
    assert small != other


def test_a_trial_learns_and_counts_from_nobody_else() -> None:
    window = {"min": 20, "max": 26}
    whole, few = (
        prepare(CONFIG.model_copy(update={"history": HistoryWindow(users=users, **window)}))
        for users in (None, 40)
    )
    assert whole.background.height > 0
    assert few.background.is_empty()
    train = few.histories.filter(pl.col("split") == "train")
    assert len(learnable_histories(few)) == train.height
    drawn = draw_candidates(few.histories, few.items, CandidateRule(sampler="popularity"), 0)
    popular = trial(
        40, candidates=CandidateRule(sampler="popularity"), history=HistoryWindow(users=40, **window)
    )
    assert popular.candidates.equals(drawn)


def test_a_trial_that_leaves_a_part_empty_says_how_many_are_enough() -> None:
    with pytest.raises(DataError, match=r"hold nobody for .*ask for \d+ or more \(--users \d+\)") as refused:
        trial(2)
    enough = int(re.findall(r"--users (\d+)", str(refused.value))[0])
    assert trial(enough).histories.height == enough
    with pytest.raises(DataError, match="hold nobody for"):
        trial(enough - 1)


def test_a_trial_of_more_users_than_there_are_is_the_whole_run_and_says_so() -> None:
    whole, all_of_them = trial(None), trial(10_000)
    assert all_of_them.histories.equals(whole.histories)
    assert all_of_them.background.equals(whole.background)
    assert {finding.rule for finding in all_of_them.findings} - {f.rule for f in whole.findings} == {
        "few-users"
    }
