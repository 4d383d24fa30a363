"""Times of every usual spelling as microseconds since 1970, UTC: the one place that reads them.

Each value is read by itself. Only two things are the column's to decide: whether ``11/02/2024`` is
November or February, which a number above 12 anywhere in the column tells, and whether whole numbers such
as 20191001 are dates. What was decided is noted; ``time_format`` decides otherwise.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError

UNITS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0.001}
"""Units that a number of time can have, in microseconds."""
DAY_FIRST: Final = "day-first-dates"
"""Rule: dates such as 11/02/2024 were read as day, month, year."""
MONTH_FIRST: Final = "month-first-dates"
"""Rule: dates such as 11/02/2024 were read as month, day, year."""

_TIME: Final = "_time"
_BOUNDS: Final = (("s", 1e11), ("ms", 1e14), ("us", 1e17), ("ns", 1e20))
"""Numbers below a bound have its unit: 1e11 s is the year 5138, 1e11 ms is 1973."""
_DATES_IN_DIGITS: Final = (
    (0, 1e8, 19_700_101, 20_991_231),
    (1e11, 1e12, 197001010000, 209912312359),
    (1e13, 1e14, 19700101000000, 20991231235959),
)
"""Numbers between the first two are dates in digits when all of them spell one between the last two."""
_LAST_YEAR_US: Final = 253_402_300_800_000_000
_REMEDY: Final = (
    "say how they are written by `data.time_format` (such as '%d/%m/%Y %H:%M', or the unit of numbers: s, "
    "ms, us, ns), or name another `data.time_column` (null: the rows are in order of time)"
)

# Names that stand for one zone wherever they are written; IST, BST, CST and AST stand for several.
_ZONES: Final = {
    "z": 0, "utc": 0, "gmt": 0, "ut": 0, "wet": 0, "west": 1, "cet": 1, "cest": 2, "mez": 1, "mesz": 2,
    "eet": 2, "eest": 3, "msk": 3, "jst": 9, "kst": 9, "aest": 10, "aedt": 11, "nzst": 12, "nzdt": 13,
    "est": -5, "edt": -4, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8,
    "hst": -10,
}  # fmt: skip
_MONTHS: Final = {
    "jan": "1", "feb": "2", "mar": "3", "apr": "4", "may": "5", "jun": "6", "jul": "7", "aug": "8",
    "sep": "9", "oct": "10", "nov": "11", "dec": "12",
}  # fmt: skip
_PARTS: Final = ("year", "month", "name", "day", "hour", "minute", "second", "part", "half", "zone")
_NAME: Final = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_WEEKDAY: Final = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?,? +)?"
_YEAR: Final = r"(?P<year>\d{4})"
_MONTH: Final = r"(?P<month>\d{1,2})"
_DAY: Final = r"(?P<day>\d{1,2})"
_ZONE: Final = r"(?: ?(?P<zone>[a-z]{1,4}|(?:utc|gmt)?[+-]\d{1,2}(?::?\d{2})?)(?: [a-z]{3,4})?)?"
_CLOCK: Final = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d+))?)?"
    rf"(?: ?(?P<half>[ap])\.?m\.?)?{_ZONE}"
)
_REST: Final = rf"(?:(?:t|:|,? +(?:at +)?){_CLOCK}(?: ?[(\[].*)?)?$"
_SPELLINGS: Final = (
    rf"^{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}{_REST}",
    rf"^{_WEEKDAY}{_DAY}[-/ ]{_NAME}[-/ ,]+(?P<year>\d{{4}}|\d{{2}}){_REST}",
    rf"^{_WEEKDAY}{_NAME} +{_DAY}(?:st|nd|rd|th)?,? +{_YEAR}{_REST}",
    rf"^{_WEEKDAY}{_NAME} +{_DAY} +{_CLOCK} +{_YEAR}$",
    rf"^{_MONTH} {_DAY}, {_YEAR}$",
    rf"^(?P<year>\d{{4}})(?P<month>\d{{2}})(?P<day>\d{{2}}){_REST}",
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[t ]?(?P<hour>\d{2})(?P<minute>\d{2})"
    rf"(?:(?P<second>\d{{2}})(?:[.,](?P<part>\d+))?)?{_ZONE}$",
)
_BY_NUMBERS: Final = {
    True: rf"^{_WEEKDAY}{_DAY}[-/.]{_MONTH}[-/.]{_YEAR}{_REST}",
    False: rf"^{_WEEKDAY}{_MONTH}[-/.]{_DAY}[-/.]{_YEAR}{_REST}",
}


def read_times(
    rows: pl.DataFrame,
    column: str,
    notes: Notes,
    *,
    form: str | None = None,
    day_first: bool | None = None,
    remedy: str = _REMEDY,
) -> pl.Series:
    """Read a column of times, of any type, as microseconds (Int64); null where there is no readable time.

    Times without a zone are UTC. `form` is how texts are written, as in ``strptime``, or a unit of `UNITS`
    for numbers; None: told by each value. `day_first` is how 11/02/2024 is read when the column itself
    doesn't tell. Notes take values that can't be read, empty ones, and what was decided for the whole column.
    Raises DataError when the column's type is none of times, or not one of its values can be read; `remedy`
    is the next step that the error names.

    Examples
    --------
    >>> texts = ["1970-01-01 00:00:01 UTC", "2 Jan 1970", "1970-01-01T02:00:00+02:00", "?", "1588687728923"]
    >>> rows = pl.DataFrame({FILE: "e.csv", LINE: [2, 3, 4, 5, 6], "at": texts})
    >>> read_times(rows, "at", Notes()).to_list()
    [1000000, 86400000000, 0, None, 1588687728923000]
    """
    rows = rows.select(FILE, LINE, pl.col(column).alias(_TIME))
    values = rows[_TIME]
    _refuse_other_types(rows, column)
    if values.dtype.is_temporal():
        texts = values
        times = values.cast(pl.Datetime("us")).dt.epoch("us")
    else:
        texts = values.cast(pl.String).str.strip_chars()
        texts = texts.set(texts == "", None)
        if form is None:
            times = _told_by_each(rows, texts, notes, day_first)
        elif form in UNITS:
            times = _numbers(texts).select(_microseconds(form)).to_series()
        else:
            times = _by_format(texts, form)
    _note_missing(rows, column, texts, times, notes, remedy)
    return times.alias(column)


def _refuse_other_types(rows: pl.DataFrame, column: str) -> None:
    kind = rows[_TIME].dtype
    if kind.is_numeric() or kind in (pl.Date, pl.Datetime, pl.String, pl.Categorical, pl.Enum, pl.Null):
        return
    words = {pl.Duration: "durations", pl.Time: "times of day without a date", pl.Boolean: "true and false"}
    held = next((word for known, word in words.items() if kind == known), f"values of type {kind}")
    place = f"{rows[FILE][0]}: " if rows.height else ""
    message = (
        f"{place}column {column!r} holds {held}, which say no moment in time; name a column of dates, "
        "numbers or text by `data.time_column` (null: the rows are in order of time)"
    )
    raise DataError(message)


def _note_missing(
    rows: pl.DataFrame, column: str, texts: pl.Series, times: pl.Series, notes: Notes, remedy: str
) -> None:
    unread = rows.filter(times.is_null() & texts.is_not_null())
    if rows.height and times.null_count() == rows.height:
        file, line, value = (unread if unread.height else rows).row(0)
        what = f"such as {value!r}" if unread.height else "all are empty"
        message = f"{file}:{line}: no time of column {column!r} can be read, {what}; {remedy}"
        raise DataError(message)
    notes.add(
        "bad-time",
        "times that can't be read count as missing; `time_format` says how they are written",
        "noted",
        unread,
        _TIME,
    )
    notes.add("empty-time", "empty times count as missing", "noted", rows.filter(texts.is_null()), pl.lit(""))


def _by_format(texts: pl.Series, form: str) -> pl.Series:
    try:
        return texts.str.to_datetime(form, strict=False, time_unit="us").dt.epoch("us")
    except pl.exceptions.PolarsError as error:
        message = f"data.time_format: {form!r} is no format of times ({str(error).splitlines()[0]})"
        raise DataError(message) from error


def _told_by_each(rows: pl.DataFrame, texts: pl.Series, notes: Notes, day_first: bool | None) -> pl.Series:
    numbers = _numbers(texts)
    times = _in_digits(rows, numbers, notes)
    numbers = numbers.with_columns(pl.when(times.is_null()).then("unit"))
    times = times.fill_null(numbers.select(_microseconds_of_any_unit()).to_series())
    _note_units(rows, texts, numbers["unit"], notes)
    written = texts.set(numbers["float"].is_not_null(), None)
    if written.null_count() == len(written):
        return times
    read = _spelled(written, _is_day_first(rows, written, notes, day_first))
    _note_missing_zones(rows, read, notes)
    return times.fill_null(read[_TIME])


def _numbers(texts: pl.Series) -> pl.DataFrame:
    """Read texts as whole numbers (which lose no digit) and as floats, and tell the unit by the size."""
    number = pl.col(_TIME).cast(pl.Float64, strict=False)
    numbers = texts.to_frame(_TIME).select(
        pl.col(_TIME).cast(pl.Int64, strict=False).alias("whole"),
        pl.when(number.is_finite()).then(number).alias("float"),
    )
    integral = pl.when(pl.col("float") % 1 == 0).then(pl.col("float").cast(pl.Int64, strict=False))
    unit = pl.lit(None, dtype=pl.String)
    for name, bound in reversed(_BOUNDS):
        unit = pl.when(pl.col("float").abs() < bound).then(pl.lit(name)).otherwise(unit)
    return numbers.with_columns(pl.coalesce("whole", integral).alias("whole"), unit.alias("unit"))


def _microseconds(unit: str) -> pl.Expr:
    factor = UNITS[unit]
    exact = pl.col("whole") // 1000 if unit == "ns" else pl.col("whole") * int(factor)
    rounded = (pl.col("float") * factor).round()
    return (
        pl.when(rounded.abs() < _LAST_YEAR_US)
        .then(pl.coalesce(exact, rounded.cast(pl.Int64, strict=False)))
        .alias(_TIME)
    )


def _microseconds_of_any_unit() -> pl.Expr:
    read = pl.lit(None, dtype=pl.Int64)
    for unit in UNITS:
        read = pl.when(pl.col("unit") == unit).then(_microseconds(unit)).otherwise(read)
    return read.alias(_TIME)


def _in_digits(rows: pl.DataFrame, numbers: pl.DataFrame, notes: Notes) -> pl.Series:
    """Read whole numbers as dates where all of their size spell one; 20191001 could be seconds of 1970."""
    times = pl.Series(_TIME, [None], dtype=pl.Int64).new_from_index(0, len(numbers))
    for low, high, first, last in _DATES_IN_DIGITS:
        size = numbers["float"].abs()
        peers = (size > max(low, 0.5)) & (size < high)
        whole = numbers["whole"].filter(peers)
        if not len(whole) or whole.null_count() or not whole.is_between(first, last).all():
            continue
        dates = _spelled(whole.cast(pl.String), day_first=False)[_TIME]
        if dates.null_count():
            continue
        times = times.scatter(peers.arg_true(), dates)
        message = (
            "whole numbers such as 20191001 are read as dates in digits (year, month, day), not as seconds"
        )
        notes.add("dates-in-digits", message, "noted", rows.filter(peers), _TIME)
    return times


def _note_units(rows: pl.DataFrame, texts: pl.Series, units: pl.Series, notes: Notes) -> None:
    """Note numbers of another unit than most, and those that a spreadsheet has rounded."""
    units = units.set(texts.str.contains(r"^[+-]?0*(?:\.0*)?$").fill_null(False), None)
    counts = units.drop_nulls().value_counts(sort=True)
    if counts.height > 1:
        most = counts[_TIME if _TIME in counts.columns else units.name][0]
        message = (
            f"numbers of several units in one column ({', '.join(counts[units.name])}): each has the unit "
            f"that its size tells; most are in {most}"
        )
        notes.add("mixed-time-units", message, "repaired", rows.filter(units != most), _TIME)
    if rows[_TIME].dtype.is_numeric():
        return
    parts = texts.str.extract_groups(r"(?i)^[+-]?\d(?:\.(?P<digits>\d*))?e\+?(?P<power>\d+)$").struct
    lost = parts.field("power").cast(pl.Int64) - parts.field("digits").fill_null("").str.len_chars()
    below_a_second = units.replace_strict({"s": 0, "ms": 3, "us": 6, "ns": 9}, return_dtype=pl.Int64)
    message = (
        "times in scientific notation whose last digits are lost, as spreadsheets write them; their order "
        "can't be known: export them again as whole numbers"
    )
    notes.add("rounded-time", message, "noted", rows.filter(lost > below_a_second), _TIME)


def _is_day_first(rows: pl.DataFrame, written: pl.Series, notes: Notes, given: bool | None) -> bool:
    """Say whether 11/02/2024 is in February: by a number above 12, else as given, else by the separator."""
    found = written.str.extract_groups(
        rf"(?i)^{_WEEKDAY}(?P<a>\d{{1,2}})(?P<between>[-/.])(?P<b>\d{{1,2}})[-/.]\d{{4}}\b"
    )
    first, second = (found.struct.field(name).cast(pl.Int64) for name in "ab")
    concerned = rows.filter(first.is_not_null())
    if concerned.is_empty():
        return False
    days, months = rows.filter(first > 12), rows.filter(second > 12)
    if days.height and months.height:
        (file, line, day), (other_file, other_line, month) = days.row(0), months.row(0)
        message = (
            f"{file}:{line}: {day!r} can only be day, month, year, and {other_file}:{other_line}: {month!r} "
            "only month, day, year; mend the file, or say how times are written by `data.time_format` (such "
            "as '%d/%m/%Y %H:%M'): the others then count as missing"
        )
        raise DataError(message)
    decided = bool(days.height) or (None if not months.height else False)
    guessed = given if given is not None else (found.struct.field("between") == ".").any()
    day_first = bool(guessed if decided is None else decided)
    order = "day, month, year" if day_first else "month, day, year"
    if decided is not None:
        message = f"dates of two numbers and a year are read as {order}: a number above 12 tells"
    elif given is not None:
        message = f"dates of two numbers and a year are read as {order}, as in the run's own table"
    else:
        message = (
            f"no date tells day from month: all are read as {order}; if that is wrong, set "
            f"`data.time_format` to '{'%m/%d/%Y' if day_first else '%d/%m/%Y'}' and how the clock is written"
        )
    notes.add(DAY_FIRST if day_first else MONTH_FIRST, message, "noted", concerned, _TIME)
    return day_first


def _spelled(texts: pl.Series, day_first: bool) -> pl.DataFrame:
    """Read texts by the first spelling that fits each; also give the zone that each names."""
    texts = texts.str.strip_chars("[]\"' ").str.to_lowercase()
    times = pl.Series(_TIME, [None], dtype=pl.Int64).new_from_index(0, len(texts))
    zones = pl.Series("zone", [None], dtype=pl.String).new_from_index(0, len(texts))
    for pattern in (*_SPELLINGS, _BY_NUMBERS[day_first]):
        left = (times.is_null() & texts.is_not_null()).arg_true()
        if not len(left):
            break
        read = _read(texts.gather(left), pattern)
        times, zones = times.scatter(left, read[_TIME]), zones.scatter(left, read["zone"])
    return pl.DataFrame([times, zones])


def _note_missing_zones(rows: pl.DataFrame, read: pl.DataFrame, notes: Notes) -> None:
    """Note times without a zone beside local ones: they may be local, too, and then are hours off."""
    if read.select((_offset_seconds() != 0).any()).item():
        bare = rows.filter(read[_TIME].is_not_null() & read["zone"].is_null())
        message = (
            "times without a zone stand beside times with one, and are read as UTC; if they are local times, "
            "write their zone"
        )
        notes.add("missing-zone", message, "noted", bare, _TIME)


def _read(texts: pl.Series, pattern: str) -> pl.DataFrame:
    found = texts.str.extract_groups(pattern).struct.unnest()
    absent = [name for name in _PARTS if name not in found.columns]
    found = found.with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in absent)
    month = pl.coalesce("month", pl.col("name").str.head(3).replace_strict(_MONTHS, default=None))
    hour = pl.col("hour").cast(pl.Int64)
    in_half = pl.when(hour.is_between(1, 12)).then(
        hour % 12 + pl.when(pl.col("half") == "p").then(12).otherwise(0)
    )
    hour = pl.when(pl.col("half").is_null()).then(hour).otherwise(in_half)
    clock = pl.when(pl.col("hour").is_null()).then(pl.lit(0)).otherwise(hour)
    two = [pl.col(name).fill_null("0").str.zfill(2) for name in ("minute", "second")]
    year = pl.col("year")
    century = pl.when(year.str.len_chars() == 4).then(pl.lit("")).when(year < "69").then(pl.lit("20"))
    local = pl.format(
        "{}{}-{}-{}T{}:{}:{}.{}",
        century.otherwise(pl.lit("19")),
        year, month.str.zfill(2), pl.col("day").str.zfill(2), clock.cast(pl.String).str.zfill(2), *two,
        pl.col("part").fill_null("0").str.head(6).str.pad_end(6, "0"),
    )  # fmt: skip
    moment = local.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us").dt.epoch("us")
    return found.select((moment - _offset_seconds() * 1_000_000).alias(_TIME), "zone")


def _offset_seconds() -> pl.Expr:
    """Say how far local time is ahead of UTC; null where the zone's name is unknown or stands for several."""
    zone = pl.col("zone")
    parts = zone.str.extract_groups(r"([+-])(\d{1,2}):?(\d{2})?$").struct
    hours, minutes = (parts.field(name).cast(pl.Int64).fill_null(0) for name in "23")
    signed = pl.when(parts.field("1") == "-").then(-1).otherwise(1) * (hours * 3600 + minutes * 60)
    named = zone.replace_strict(_ZONES, default=None, return_dtype=pl.Int64) * 3600
    return pl.when(zone.is_null()).then(0).when(parts.field("1").is_null()).then(named).otherwise(signed)
