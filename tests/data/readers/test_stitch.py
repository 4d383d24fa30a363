import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.notes import FILE, LINE, Notes
from trsr.data.readers.amazon import stitched


def stitch(*rows):
    """Rows of (user, history, item)."""
    schema = {"user_id": pl.String, "history": pl.List(pl.String), "item_id": pl.String}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row").select(
        pl.lit("t.csv").alias(FILE), pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE), pl.all()
    )
    notes = Notes()
    table = stitched(frame, notes)
    return dict(table.select("user_id", "item_ids").iter_rows()), notes


def rolling(items, cut, start=1):
    return [(items[max(0, place - cut) : place], items[place]) for place in range(start, len(items))]


def test_rows_of_several_users_mixed():
    found, notes = stitch(
        ("u", ["1"], "2"), ("v", ["7"], "8"), ("u", ["1", "2"], "3"), ("v", ["7", "8"], "9")
    )
    assert found == {"u": ["1", "2", "3"], "v": ["7", "8", "9"]}
    assert notes.findings() == ()


def test_cut_histories_roll_on():
    found, _ = stitch(*(("u", history, item) for history, item in rolling(list("abcdefg"), cut=3)))
    assert found == {"u": list("abcdefg")}


def test_absent_rows_are_bridged_by_the_overlap():
    rows = rolling(list("abcdefgh"), cut=4)
    found, notes = stitch(*(("u", *row) for row in (rows[2], rows[5])))
    assert found == {"u": list("abcdefg")}
    assert notes.findings() == ()


def test_rows_that_do_not_join_leave_the_longest_chain_and_are_counted():
    found, notes = stitch(
        ("u", ["a", "b"], "c"), ("u", ["x"], "y"), ("u", ["x", "y"], "z"), ("u", ["x", "y", "z"], "w")
    )
    assert found == {"u": ["x", "y", "z", "w"]}
    assert notes.total("rows-do-not-join") == 1
    assert notes.total("row-left-out") == 1


def test_repeated_rows_are_read_once():
    found, notes = stitch(("u", ["a"], "a"), ("u", ["a"], "a"), ("u", ["a", "a"], "b"))
    assert found == {"u": ["a", "a", "b"]}
    assert notes.total("duplicate-row") == 1


def test_a_short_history_must_hold_all_of_the_sequence_before_it():
    found, notes = stitch(("u", ["a", "b"], "c"), ("u", ["c"], "d"), ("v", list("12345"), "6"))
    assert found["u"] == ["a", "b", "c"]
    assert notes.total("rows-do-not-join") == 1


def test_no_rows():
    assert stitch()[0] == {}


@given(st.integers(2, 12), st.integers(1, 5))
def test_any_sequence_of_different_items_is_put_together(length, cut):
    items = [f"i{place}" for place in range(length)]
    rows = rolling(items, cut)
    found, notes = stitch(*(("u", *row) for row in rows))
    assert found == {"u": items}
    assert notes.findings() == ()


@given(
    st.lists(
        st.tuples(st.sampled_from("uv"), st.lists(st.sampled_from("ab"), max_size=4), st.sampled_from("ab")),
        max_size=8,
    )
)
def test_every_user_stays_one_user(rows):
    found, _ = stitch(*rows)
    assert set(found) == {user for user, _, _ in rows}
    for user, history, _ in rows:
        assert len(found[user]) >= len(history) + 1
