import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trsr.config.data import HistoryWindow
from trsr.data.prepare import apply_window, too_short

SCHEMA = {"user_id": pl.String, "item_ids": pl.List(pl.String), "times": pl.List(pl.Int64)}


def _histories(*lengths: int, times: bool = True) -> pl.DataFrame:
    rows = [
        (f"u{place}", [f"i{k}" for k in range(length)], list(range(length)) if times else None)
        for place, length in enumerate(lengths)
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def test_the_bounds_themselves_belong_to_the_window() -> None:
    kept, findings = apply_window(_histories(11, 26), HistoryWindow())
    assert kept["item_ids"].list.len().to_list() == [11, 26]
    assert findings == ()


def test_a_shorter_history_is_left_out_and_counted() -> None:
    kept, findings = apply_window(_histories(10, 11, 3), HistoryWindow())
    assert kept["user_id"].to_list() == ["u1"]
    assert [(f.rule, f.count, f.action) for f in findings] == [("short-history", 2, "dropped")]
    assert findings[0].examples == ("user u0: 10 interactions", "user u2: 3 interactions")


def test_a_longer_history_keeps_its_newest_items_and_times() -> None:
    kept, findings = apply_window(_histories(28), HistoryWindow())
    assert kept["item_ids"].to_list() == [[f"i{k}" for k in range(2, 28)]]
    assert kept["times"].to_list() == [list(range(2, 28))]
    assert [(f.rule, f.count, f.action) for f in findings] == [("long-history", 1, "repaired")]


def test_missing_times_stay_missing() -> None:
    kept, _ = apply_window(_histories(28, times=False), HistoryWindow())
    assert kept["times"].to_list() == [None]


@given(st.lists(st.integers(1, 40), max_size=12))
def test_every_user_is_kept_or_counted(lengths: list[int]) -> None:
    kept, findings = apply_window(_histories(*lengths), HistoryWindow())
    dropped = sum(finding.count for finding in findings if finding.action == "dropped")
    assert kept.height + dropped == len(lengths)
    assert all(11 <= length <= 26 for length in kept["item_ids"].list.len())


def test_histories_below_the_window_are_those_that_still_have_a_transition() -> None:
    rows = [("a", 1), ("b", 2), ("c", 4), ("d", 5), ("e", 9)]
    histories = pl.DataFrame(
        {
            "user_id": [user for user, _ in rows],
            "item_ids": [[str(i) for i in range(n)] for _, n in rows],
            "times": [list(range(n)) for _, n in rows],
        }
    )
    assert too_short(histories, HistoryWindow(min=5, max=6))["user_id"].to_list() == ["b", "c"]
