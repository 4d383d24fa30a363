"""Which users take part: those whose history is long enough, with their newest interactions."""

from __future__ import annotations

import polars as pl

from trsr.config.data import HistoryWindow
from trsr.records import ITEMS, TIMES, USER, Finding

_EXAMPLES = 5


def too_short(histories: pl.DataFrame, window: HistoryWindow) -> pl.DataFrame:
    """Return the histories that the window leaves out but that still tell what follows what.

    Parameters
    ----------
    histories
        `USER`, `ITEMS` and `TIMES`, oldest first.
    window
        Fewest interactions of those who take part.

    Returns
    -------
    polars.DataFrame
        The same columns; each history has 2 interactions or more.

    Examples
    --------
    >>> rows = {"user_id": ["u", "v", "w"], "item_ids": [["a", "b", "c"], ["a", "b"], ["a"]]}
    >>> too_short(pl.DataFrame(rows), HistoryWindow(min=3, max=9))["user_id"].to_list()
    ['v']
    """
    return histories.filter(pl.col(ITEMS).list.len().is_between(2, window.min - 1))


def apply_window(histories: pl.DataFrame, window: HistoryWindow) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Leave out histories that are too short and cut those that are too long to their newest part.

    Parameters
    ----------
    histories
        `USER`, `ITEMS` and `TIMES`, oldest first; the last item will be the target and counts.
    window
        Fewest and most interactions.

    Returns
    -------
    tuple[polars.DataFrame, tuple[Finding, ...]]
        The same columns, and how many users each rule concerned.

    Examples
    --------
    >>> rows = {"user_id": ["u", "v"], "item_ids": [["a", "b", "c"], ["a"]], "times": [[1, 2, 3], [1]]}
    >>> kept, findings = apply_window(pl.DataFrame(rows), HistoryWindow(min=2, max=2))
    >>> kept["item_ids"].to_list()
    [['b', 'c']]
    >>> [(finding.rule, finding.count) for finding in findings]
    [('short-history', 1), ('long-history', 1)]
    """
    length = pl.col(ITEMS).list.len()
    short = histories.filter(length < window.min)
    long = histories.filter(length > window.max)
    kept = histories.filter(length >= window.min).with_columns(
        pl.col(ITEMS).list.tail(window.max), pl.col(TIMES).list.tail(window.max)
    )
    findings = (
        Finding(
            "short-history",
            f"{short.height:,} of {histories.height:,} users left out: fewer than {window.min} interactions "
            "(history.min)",
            short.height,
            "dropped",
            _examples(short),
        ),
        Finding(
            "long-history",
            f"{long.height:,} of {histories.height:,} users cut to their newest {window.max} interactions "
            "(history.max)",
            long.height,
            "repaired",
            _examples(long),
        ),
    )
    return kept, tuple(finding for finding in findings if finding.count)


def _examples(histories: pl.DataFrame) -> tuple[str, ...]:
    rows = histories.head(_EXAMPLES).select(USER, pl.col(ITEMS).list.len())
    return tuple(f"user {user}: {count} interactions" for user, count in rows.iter_rows())
