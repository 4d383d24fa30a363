from datetime import UTC, date, datetime, timedelta, timezone
from email.utils import format_datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trsr.data.notes import FILE, LINE, Notes
from trsr.data.times import read_times
from trsr.errors import DataError

NOON = 1_582_979_696  # 2020-02-29 12:34:56 UTC
DAY = NOON - NOON % 86_400
MINUTE = NOON - 56


def read(values, **options):
    """Read values as microseconds; also the findings by their rules."""
    column = values if isinstance(values, pl.Series) else pl.Series(values)
    rows = pl.DataFrame({FILE: "e.csv", "at": column}).with_columns(
        pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias(LINE)
    )
    notes = Notes()
    times = read_times(rows, "at", notes, **options)
    assert times.dtype == pl.Int64
    return times.to_list(), {finding.rule: finding for finding in notes.findings()}


SPELLINGS = {
    # ISO 8601 and what databases, languages and logs make of it
    "2020-02-29": DAY,
    "2020-02-29T12:34:56": NOON,
    "2020-02-29 12:34:56": NOON,
    "2020-02-29t12:34:56z": NOON,
    "2020-02-29T12:34:56Z": NOON,
    "2020-02-29 12:34:56Z": NOON,
    "2020-02-29 12:34": MINUTE,
    "2020-02-29 12:34:56 UTC": NOON,
    "2020-02-29 12:34:56 GMT": NOON,
    "2020-02-29 12:34:56.250": NOON + 0.25,
    "2020-02-29 12:34:56,250": NOON + 0.25,
    "2020-02-29T12:34:56.123456789Z": NOON + 0.123456,
    "2020-02-29 12:34:56.5 UTC": NOON + 0.5,
    "2020-02-29T12:34:56+00:00": NOON,
    "2020-02-29T12:34:56+0000": NOON,
    "2020-02-29T14:34:56+02:00": NOON,
    "2020-02-29T14:34:56 +0200": NOON,
    "2020-02-29T14:34:56+02": NOON,
    "2020-02-29T07:04:56-0530": NOON,
    "2020-02-29 13:34:56 CET": NOON,
    "2020-02-29 07:34:56 EST": NOON,
    "2020-02-29 12:34:56 +0000 UTC": NOON,
    "2020-02-29T13:34:56+01:00[Europe/Paris]": NOON,
    "2020/02/29": DAY,
    "2020/2/29 12:34": MINUTE,
    "2020.02.29 12:34:56": NOON,
    # digits alone
    "20200229": DAY,
    "202002291234": MINUTE,
    "20200229123456": NOON,
    "20200229T123456Z": NOON,
    "20200229 12:34:56": NOON,
    # web servers, mail and HTTP, social networks, programs
    "29/Feb/2020:12:34:56 +0000": NOON,
    "[29/Feb/2020:13:34:56 +0100]": NOON,
    "Sat Feb 29 12:34:56 +0000 2020": NOON,
    "Sat Feb 29 12:34:56 2020": NOON,
    "Sat Feb 29 12:34:56 UTC 2020": NOON,
    "Sat, 29 Feb 2020 12:34:56 GMT": NOON,
    "Saturday, 29-Feb-20 12:34:56 GMT": NOON,
    "29 Feb 2020 04:34:56 -0800 (PST)": NOON,
    "Sat Feb 29 2020 13:34:56 GMT+0100 (Central European Standard Time)": NOON,
    "29-FEB-2020": DAY,
    "29-FEB-20": DAY,
    "29 February 2020": DAY,
    "Feb 29, 2020": DAY,
    "February 29th, 2020": DAY,
    "Feb 29, 2020, 12:34:56 PM": NOON,
    "Feb 29, 2020 at 12:34 p.m.": MINUTE,
    "2 29, 2020": DAY,
    "02 29, 2020": DAY,
    # a number above 12 tells days from months
    "29/02/2020": DAY,
    "02/29/2020": DAY,
    "29.2.2020 12:34": MINUTE,
    "2-29-2020 12:34:56 PM": NOON,
    "2/29/2020 12:00:00 AM": DAY,
    # numbers since 1970
    str(NOON): NOON,
    f"{NOON}.5": NOON + 0.5,
    f"{NOON}250": NOON + 0.25,
    f"{NOON}250000": NOON + 0.25,
    f"{NOON}250000999": NOON + 0.25,
    "1.582979696E+09": NOON,
    "1.582979696E+12": NOON,
    "0": 0,
    "-86400": -86_400,
    " 5 ": 5,
}

NO_TIMES = (
    "yesterday", "2020-13-01", "2020-02-30", "2020-02-29 25:00", "2020-02-29 13:00 PM", "12:34", "2020-02",
    "29/02/20", "2020-02-29 12:34:56 CST", "2020-02-29 12:34:56 IST", "nan", "inf", "1e300", "12 12 12",
)  # fmt: skip
"""CST and IST stand for several zones; two digits alone tell no year."""


@pytest.mark.parametrize(("text", "seconds"), SPELLINGS.items())
def test_every_spelling(text, seconds):
    assert read([text])[0] == [round(seconds * 1_000_000)]


def test_spellings_may_be_mixed_in_a_column():
    apart = {"29/02/2020", "29.2.2020 12:34"} | {text for text in SPELLINGS if text.isdigit()}
    mixed = {text: seconds for text, seconds in SPELLINGS.items() if text not in apart}
    assert read(list(mixed))[0] == [round(seconds * 1_000_000) for seconds in mixed.values()]


@pytest.mark.parametrize("text", NO_TIMES)
def test_what_is_no_time_is_refused_with_value_line_and_setting(text):
    with pytest.raises(DataError, match=r"e\.csv:3: no time of column 'at' .*time_format") as refusal:
        read(["", text])
    assert repr(text) in str(refusal.value)


def test_an_empty_column_is_refused_too():
    for column in (
        pl.Series(["", "  "]),
        pl.Series([None, None]),
        pl.Series([None], dtype=pl.Datetime("us")),
    ):
        with pytest.raises(DataError, match="all are empty"):
            read(column)
    assert read(pl.Series([], dtype=pl.String)) == ([], {})


def test_some_unreadable_and_empty_times_are_counted_apart():
    times, findings = read(["2020-02-29", "soon", "", None, "later"])
    assert times == [DAY * 1_000_000, None, None, None, None]
    assert (findings["bad-time"].count, findings["bad-time"].examples) == (
        2,
        ("e.csv:3: soon", "e.csv:6: later"),
    )
    assert findings["empty-time"].count == 2


def test_units_are_told_value_by_value_and_counted():
    times, findings = read([NOON, NOON * 1000, (NOON + 1) * 1000, 0, (NOON + 2) * 10**9])
    assert times == [second * 1_000_000 for second in (NOON, NOON, NOON + 1, 0, NOON + 2)]
    mixed = findings["mixed-time-units"]
    assert (mixed.count, mixed.action) == (2, "repaired")
    assert "most are in ms" in mixed.message
    assert read([NOON, 5, 0])[1] == {}


def test_a_named_unit_decides():
    assert read([5, 200_000_000_000], form="ms") == ([5_000, 200_000_000_000_000], {})
    assert read(["20200229"], form="s")[0] == [20_200_229_000_000]


def test_dates_in_digits_are_told_from_small_numbers_by_the_column():
    times, findings = read([20_200_229, 20_200_301])
    assert times == [DAY * 1_000_000, (DAY + 86_400) * 1_000_000]
    assert findings["dates-in-digits"].count == 2
    assert read([20_200_229, 20_200_301, 77])[0] == [20_200_229_000_000, 20_200_301_000_000, 77_000_000]
    assert read([20_200_229.0, None])[0] == [DAY * 1_000_000, None]
    assert read([20_200_229, 20_201_399])[0][0] == 20_200_229_000_000


def test_digits_that_a_spreadsheet_lost_are_noted():
    times, findings = read(["1.58E+09", "1.582979696E+09", "1.582979696123E+12"])
    assert times[0] == 1_580_000_000_000_000
    assert findings["rounded-time"].examples == ("e.csv:2: 1.58E+09",)


@pytest.mark.parametrize(
    ("texts", "options", "rule", "first"),
    [
        (["11/02/2024", "13/02/2024"], {}, "day-first-dates", "2024-02-11"),
        (["11/02/2024", "02/13/2024"], {}, "month-first-dates", "2024-11-02"),
        (["11/02/2024", "02/11/2024"], {}, "month-first-dates", "2024-11-02"),
        (["11.02.2024", "02.11.2024"], {}, "day-first-dates", "2024-02-11"),
        (["11/02/2024"], {"day_first": True}, "day-first-dates", "2024-02-11"),
        (["11/02/2024", "02/13/2024"], {"day_first": True}, "month-first-dates", "2024-11-02"),
    ],
)
def test_days_and_months(texts, options, rule, first):
    times, findings = read(texts, **options)
    assert times[0] == round(datetime.fromisoformat(f"{first}T00:00Z").timestamp() * 1_000_000)
    assert (list(findings), findings[rule].count) == ([rule], len(texts))


def test_a_column_that_contradicts_itself_is_refused_with_both_sides():
    with pytest.raises(DataError, match=r"e\.csv:2: '13/02/2024' .* e\.csv:3: '02/13/2024' .*time_format"):
        read(["13/02/2024", "02/13/2024"])


def test_a_given_format_decides():
    times, findings = read(["01/02/24 10.30", "2020-02-29"], form="%d/%m/%y %H.%M")
    assert times == [1_706_783_400_000_000, None]
    assert findings["bad-time"].count == 1
    with pytest.raises(DataError, match="is no format of times"):
        read(["2020022912"], form="%Y%m%d%H")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_moments_of_typed_columns(unit, zone):
    moment = datetime(2020, 2, 29, 12, 34, 56, tzinfo=UTC if zone else None)
    column = pl.Series([moment, None]).cast(pl.Datetime(unit, zone))
    assert read(column)[0] == [NOON * 1_000_000, None]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pl.Series([date(2020, 2, 29)]), DAY),
        (pl.Series([NOON], dtype=pl.Int32), NOON),
        (pl.Series([NOON * 1000], dtype=pl.UInt64), NOON),
        (pl.Series([NOON + 0.25]), NOON + 0.25),
        (pl.Series([str(NOON)]).cast(pl.Decimal(20, 2)), NOON),
        (pl.Series(["2020-02-29"], dtype=pl.Categorical), DAY),
    ],
)
def test_other_types(column, expected):
    assert read(column)[0] == [round(expected * 1_000_000)]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([timedelta(days=1)], "durations"),
        ([datetime(2020, 1, 1, 12).time()], "times of day"),
        ([True], "true and false"),
        ([[1, 2]], "List"),
        ([{"a": 1}], "Struct"),
    ],
)
def test_types_without_a_moment_are_refused_in_words(values, told):
    with pytest.raises(DataError, match=rf"column 'at' holds .*{told}.*time_column"):
        read(pl.Series(values))


MOMENTS = st.datetimes(datetime(1974, 1, 1), datetime(2200, 1, 1))
OFFSETS = st.integers(-12 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None, max_examples=30)
@given(MOMENTS, OFFSETS)
def test_what_the_standard_library_writes_is_read(moment, zone):
    moment = moment.replace(tzinfo=zone)
    exact = round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
    whole = exact - moment.microsecond
    whole_seconds = ["%d/%b/%Y:%X %z", "%a %b %d %H:%M:%S %z %Y", "%m/%d/%Y %I:%M:%S %p %z"]
    written = [format_datetime(moment), *(moment.strftime(form) for form in whole_seconds)]
    written.append("02/28/2020")  # tells days from months
    assert read([moment.isoformat(), str(moment), *written])[0][:6] == [exact] * 2 + [whole] * 4
    assert read([exact])[0] == [exact]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_is_a_time_or_missing_or_refused(texts):
    try:
        times, findings = read(pl.Series(texts, dtype=pl.String))
    except DataError:
        return
    lost = sum(findings[rule].count for rule in ("bad-time", "empty-time") if rule in findings)
    assert sum(time is None for time in times) == lost


def test_times_without_a_zone_beside_local_ones_are_noted():
    bare, local = "2024-01-01 10:00", "2024-01-01T10:00:00+02:00"
    times, findings = read([bare, local, "1704103200", "10/Jan/2024:13:55:36 -0700"])
    assert times[0] - times[1] == 2 * 3600 * 1_000_000
    assert (findings["missing-zone"].count, findings["missing-zone"].examples) == (1, (f"e.csv:2: {bare}",))
    assert read([bare, "2024-01-01T10:00:00Z"])[1] == {}
