import polars as pl
import pytest

from trsr.config.data import SplitRule
from trsr.data.prepare import split_users
from trsr.errors import DataError


def _histories(n_users: int, *, times: bool = True) -> pl.DataFrame:
    users = [f"u{number}" for number in range(n_users)]
    stamps = [[0, 1000 - number] if times else None for number in range(n_users)]
    schema = {"user_id": pl.String, "times": pl.List(pl.Int64)}
    return pl.DataFrame({"user_id": users, "times": stamps}, schema=schema)


def _parts(histories: pl.DataFrame) -> dict[str, str]:
    return dict(histories.select("user_id", "split").iter_rows())


def test_shares_hold_on_average() -> None:
    counts = split_users(_histories(20_000), SplitRule(), 0)["split"].value_counts()
    shares = {name: count / 20_000 for name, count in counts.iter_rows()}
    assert shares == {
        "train": pytest.approx(0.8, abs=0.01),
        "valid": pytest.approx(0.1, abs=0.01),
        "test": pytest.approx(0.1, abs=0.01),
    }


def test_a_users_part_does_not_depend_on_other_users_or_on_row_order() -> None:
    everyone = _parts(split_users(_histories(600), SplitRule(), 3))
    some = _histories(600).sample(fraction=0.5, shuffle=True, seed=1)
    assert _parts(split_users(some, SplitRule(), 3)).items() <= everyone.items()


def test_another_seed_gives_other_parts() -> None:
    histories = _histories(600)
    assert _parts(split_users(histories, SplitRule(), 0)) != _parts(split_users(histories, SplitRule(), 1))


def test_by_time_the_oldest_targets_train_and_the_newest_test() -> None:
    parts = _parts(split_users(_histories(10), SplitRule(by="time", valid=0.2, test=0.3), 0))
    # User 0 has the newest target, user 9 the oldest.
    want = ["test"] * 3 + ["valid"] * 2 + ["train"] * 5
    assert [parts[f"u{number}"] for number in range(10)] == want


def test_by_time_goes_by_the_target_not_by_the_first_interaction() -> None:
    schema = {"user_id": pl.String, "times": pl.List(pl.Int64)}
    rows = {"user_id": ["a", "b", "c"], "times": [[0, 9], [5, 6], [7, 8]]}
    parts = _parts(
        split_users(pl.DataFrame(rows, schema=schema), SplitRule(by="time", valid=0.3, test=0.3), 0)
    )
    assert parts == {"b": "train", "c": "valid", "a": "test"}


def test_by_time_without_times_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"20 of 20 users have none; set split\.by to hash"):
        split_users(_histories(20, times=False), SplitRule(by="time"), 0)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match=r"no user for .* among 1 users"):
        split_users(_histories(1), SplitRule(), 0)
