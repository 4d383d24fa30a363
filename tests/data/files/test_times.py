from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.data.files.times import to_milliseconds

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", DAY_MS),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-01 00:00:01.250", 1250),
        ("1970-01-01T00:01", 60_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T19:00:00-0500", 0),
        ("1588687728", 1_588_687_728_000),
        ("1588687728.5", 1_588_687_728_500),
        (" 5 ", 5000),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("yesterday", None),
        ("2020-13-01", None),
        ("1e300", None),
    ],
)
def test_single_times(text, expected):
    assert to_milliseconds(pl.Series([text])).to_list() == [expected]


def test_the_column_decides_between_seconds_and_milliseconds():
    assert to_milliseconds(pl.Series([1_588_687_728, 1_588_687_729])).to_list() == [
        1_588_687_728_000,
        1_588_687_729_000,
    ]
    assert to_milliseconds(pl.Series([5, 1_588_687_728_000, 1_588_687_728_001])).to_list()[0] == 5


def test_dates_of_typed_columns():
    assert to_milliseconds(pl.Series([date(1970, 1, 2)])).to_list() == [DAY_MS]
    assert to_milliseconds(pl.Series([datetime(1970, 1, 1, 0, 0, 1), None])).to_list() == [1000, None]
    assert to_milliseconds(pl.Series([None, None], dtype=pl.String)).to_list() == [None, None]


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)))
def test_iso_times_agree_with_the_standard_library(moment):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    (read,) = to_milliseconds(pl.Series([moment.isoformat()])).to_list()
    assert read == round(moment.timestamp() * 1000)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_is_a_time_or_null(texts):
    read = to_milliseconds(pl.Series(texts, dtype=pl.String))
    assert read.dtype == pl.Int64
    assert len(read) == len(texts)
