"""Times of every usual spelling as milliseconds since 1970, UTC."""

from __future__ import annotations

from typing import Final

import polars as pl

_LARGEST_SECOND: Final = 1e11
"""Numbers from here on are no seconds: 1e11 s is the year 5138, 1e11 ms is 1973."""
_LAST_YEAR_MS: Final = 253_402_300_800_000
"""The year 10000; numbers beyond it are no times."""
_ISO_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")


def to_milliseconds(times: pl.Series) -> pl.Series:
    """Read numbers (seconds, or milliseconds when most are too large for seconds) and ISO 8601 texts.

    Returns
    -------
    polars.Series
        Int64; null where there is no readable time. Times without a zone are UTC.

    Examples
    --------
    >>> texts = ["1970-01-01 00:00:01", "1970-01-02", "1970-01-01T02:00:00+02:00", "?"]
    >>> to_milliseconds(pl.Series(texts)).to_list()
    [1000, 86400000, 0, None]
    >>> to_milliseconds(pl.Series([1588687728923, 1588687728924])).to_list()
    [1588687728923, 1588687728924]
    """
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("ms")).dt.epoch("ms").alias(times.name)
    texts = times.cast(pl.String).str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None)
    middle = numbers.abs().median()
    factor = 1000 if isinstance(middle, float) and middle < _LARGEST_SECOND else 1
    scaled = (numbers * factor).round()
    from_numbers = scaled.set(scaled.abs() > _LAST_YEAR_MS, None).cast(pl.Int64, strict=False)
    return from_numbers.zip_with(from_numbers.is_not_null(), _iso_milliseconds(texts)).alias(times.name)


def _iso_milliseconds(texts: pl.Series) -> pl.Series:
    text = (
        pl.col("text").str.replace(r"^(\d{4}-\d{2}-\d{2}) (\d)", "${1}T${2}").str.replace(r"[zZ]$", "+00:00")
    )
    dated = pl.when(text.str.contains(r"^\d{4}-\d{2}-\d{2}$")).then(text + "T00:00:00").otherwise(text)
    # A zone such as +02:00, +0200 or +02 is cut off, read as minutes, and taken from the local time.
    zone = dated.str.extract_groups(r"T.*([+-])(\d{2}):?(\d{2})?$")
    minutes = zone.struct[1].cast(pl.Int64, strict=False) * 60 + zone.struct[2].cast(
        pl.Int64, strict=False
    ).fill_null(0)
    offset = pl.when(zone.struct[0] == "-").then(-minutes).otherwise(minutes).fill_null(0) * 60_000
    local = dated.str.replace(r"(T.*)[+-]\d{2}:?(?:\d{2})?$", "${1}")
    read = pl.coalesce(local.str.to_datetime(form, strict=False, time_unit="ms") for form in _ISO_FORMATS)
    return pl.DataFrame({"text": texts}).select((read.dt.epoch("ms") - offset).alias("ms")).to_series()
