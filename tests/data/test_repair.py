import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.notes import FILE, LINE, Notes
from trsr.data.repair import assemble, explode_lists
from trsr.errors import DataError


def items(*rows):
    columns = {"item_id": [row[0] for row in rows], "title": [row[1] for row in rows]}
    schema = {"item_id": pl.String, "title": pl.String}
    return pl.DataFrame(columns, schema=schema).select(
        pl.lit("items.csv").alias(FILE), pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE), pl.all()
    )


def events(*rows, timed=True):
    columns = {"user_id": [r[0] for r in rows], "item_id": [r[1] for r in rows]}
    schema = {"user_id": pl.String, "item_id": pl.String}
    if timed:
        columns["time"] = [None if r[2] is None else r[2] * 1000 for r in rows]
        schema["time"] = pl.Int64
    return pl.DataFrame(columns, schema=schema).select(
        pl.lit("events.csv").alias(FILE), pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE), pl.all()
    )


CATALOGUE = items(("a", "A"), ("b", "B"), ("c", "C"))


def repaired(catalogue, happened, **options):
    notes = Notes()
    dataset = assemble(catalogue, happened, notes, **options)
    return dataset, {finding.rule: finding for finding in notes.findings()}


def test_clean_data_has_no_findings():
    dataset, findings = repaired(CATALOGUE, events(("u", "a", 1), ("v", "b", 1), ("u", "b", 2)))
    assert dataset.histories.rows() == [("u", ["a", "b"], [1, 2]), ("v", ["b"], [1])]
    assert findings == {}


def test_duplicate_items_keep_the_first_and_tell_other_texts_apart():
    notes = Notes()
    dataset = assemble(
        items(("a", "A"), ("b", "B"), ("a", "A"), ("a", "other")), events(("u", "a", 1)), notes
    )
    assert dataset.items.rows() == [("a", "A"), ("b", "B")]
    same, other = notes.findings()
    assert (same.count, same.examples) == (1, ("items.csv:4: a A",))
    assert (other.count, other.examples) == (1, ("items.csv:5: a other",))
    assert "another text" in other.message


def test_items_without_text_are_kept_and_noted():
    dataset, findings = repaired(items(("a", None), ("b", "  ")), events(("u", "a", 1)))
    assert dataset.items.rows() == [("a", ""), ("b", "")]
    assert (findings["empty-text"].count, findings["empty-text"].action) == (2, "noted")


def test_unknown_items_are_removed_and_lost_users_counted():
    happened = events(("u", "a", 1), ("u", "x", 2), ("v", "x", 3), ("v", "y", 4))
    dataset, findings = repaired(CATALOGUE, happened)
    assert dataset.histories.rows() == [("u", ["a"], [1])]
    assert findings["unknown-item"].count == 3
    assert findings["unknown-item"].examples[0] == "events.csv:3: item x of user u"
    assert findings["unknown-id"].count == 2
    assert findings["user-without-items"].count == 1


def test_unsorted_times_are_sorted_stably_and_users_keep_their_order():
    happened = events(("u", "a", 9), ("v", "a", 1), ("u", "b", 5), ("u", "c", 5))
    dataset, findings = repaired(CATALOGUE, happened)
    assert dataset.histories.rows() == [("u", ["b", "c", "a"], [5, 5, 9]), ("v", ["a"], [1])]
    assert (findings["unsorted-times"].count, findings["unsorted-times"].action) == (1, "repaired")


def test_missing_times_drop_rows_but_keep_users_without_any_time():
    happened = events(("u", "a", 1), ("u", "b", None), ("v", "b", None), ("v", "a", None))
    dataset, findings = repaired(CATALOGUE, happened)
    assert dataset.histories.rows() == [("u", ["a"], [1]), ("v", ["b", "a"], None)]
    assert findings["missing-time"].examples == ("events.csv:3: item b of user u",)
    assert findings["missing-times"].count == 1


def test_repeated_events_are_dropped_only_with_the_same_time():
    happened = events(("u", "a", 1), ("u", "a", 1), ("u", "a", 2))
    dataset, findings = repaired(CATALOGUE, happened)
    assert dataset.histories.rows() == [("u", ["a", "a"], [1, 2])]
    assert findings["duplicate-event"].count == 1
    kept, _ = repaired(CATALOGUE, happened, drop_repeats=False)
    assert kept.histories.rows() == [("u", ["a", "a", "a"], [1, 1, 2])]


def test_repeats_without_times_are_revisits():
    dataset, findings = repaired(CATALOGUE, events(("u", "a"), ("u", "a"), timed=False))
    assert dataset.histories.rows() == [("u", ["a", "a"], None)]
    assert findings == {}


def test_ids_are_stripped_and_rows_without_id_dropped():
    happened = events((" u", "a", 1), ("u", "b ", 2), ("", "a", 3), ("u", None, 4))
    dataset, findings = repaired(CATALOGUE, happened)
    assert dataset.histories.rows() == [("u", ["a", "b"], [1, 2])]
    assert findings["padded-id"].count == 2
    assert findings["missing-id"].count == 2


def test_empty_lists_are_noted():
    notes = Notes()
    rows = pl.DataFrame({FILE: "h.csv", LINE: [2, 3], "user_id": ["u", "v"], "item_ids": [["a"], []]})
    assert explode_lists(rows, notes).select("user_id", "item_id").rows() == [("u", "a")]
    assert notes.total("empty-history") == 1


def test_nothing_left_is_refused_with_the_next_step():
    with pytest.raises(DataError, match="check that the ids"):
        repaired(CATALOGUE, events(("u", "x", 1)))
    with pytest.raises(DataError, match="no item is left"):
        repaired(items(("", "A")), events(("u", "a", 1)))


@pytest.mark.parametrize("word", ["N/A", "nan ", "None", r"\N", "NULL", "undefined", "<NA>"])
def test_null_words_are_no_ids_and_no_texts(word):
    catalogue = items(("a", word), (word, "B"), ("c", "C"))
    dataset, findings = repaired(catalogue, events(("u", "a", 1), (word, "a", 2), ("u", word, 3)))
    assert dataset.items.rows() == [("a", ""), ("c", "C")]
    assert dataset.histories.rows() == [("u", ["a"], [1])]
    assert (findings["null-word"].count, findings["missing-id"].count) == (4, 3)
    assert f"events.csv:3: user_id: {word.strip()}" in findings["null-word"].examples
    assert "user-without-items" not in findings


def test_null_words_can_be_turned_off():
    dataset, findings = repaired(items(("None", "NULL")), events(("nan", "None", 1)), null_words=[])
    assert dataset.items.rows() == [("None", "NULL")]
    assert dataset.histories.rows() == [("nan", ["None"], [1])]
    assert findings == {}


def test_where_ids_do_not_meet_both_sides_are_shown():
    with pytest.raises(DataError, match="items such as 'B1', 'B2', the item table holds 'b1'"):
        repaired(items(("b1", "A")), events(("u", "B1", 1), ("u", "B2", 2)))


def test_unknown_ids_are_shown_beside_known_ones():
    _, findings = repaired(CATALOGUE, events(("u", "a", 1), ("u", "A", 2)))
    assert "its own are such as 'a'" in findings["unknown-id"].message
    assert findings["unknown-id"].examples == ("events.csv:3: A",)


IDS = st.sampled_from(["a", "b", " a", "x", "", None, "\u00a0", "é", "nan"])


@given(
    st.lists(st.tuples(IDS, st.text(max_size=3)), max_size=6),
    st.lists(st.tuples(IDS, IDS, st.none() | st.integers(-5, 5)), max_size=12),
)
def test_interactions_are_kept_or_counted(catalogue, happened):
    """`assemble` checks the invariants itself; here the books must balance."""
    notes = Notes()
    try:
        dataset = assemble(items(*catalogue), events(*happened), notes)
    except DataError:
        return
    kept = int(dataset.histories["item_ids"].list.len().sum())
    item_rows = [row for row in catalogue if (row[0] or "").strip() not in ("", "nan")]
    unnamed_items = len(catalogue) - len(item_rows)
    rules = ("missing-id", "unknown-item", "missing-time", "duplicate-event")
    assert kept + sum(notes.total(rule) for rule in rules) - unnamed_items == len(happened)
    assert dataset.items.height + notes.total("duplicate-item") + unnamed_items == len(catalogue)
