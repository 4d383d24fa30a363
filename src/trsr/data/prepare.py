"""From a configuration to what every later stage reads: items, histories with targets, frozen candidates."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json, write_parquet
from trsr.config import Config
from trsr.config.data import HistoryWindow, SplitRule
from trsr.data.candidates import draw_candidates, uniforms, user_keys
from trsr.data.dataset import Dataset
from trsr.data.protocols import divide, given_candidates, with_listed_users
from trsr.data.readers.registry import read
from trsr.errors import ArtifactError, DataError
from trsr.records import HISTORY, ITEMS, SPLIT, TARGET, TIMES, USER, Finding, Split


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run works on; the findings are what was noticed, repaired or left out on the way."""

    items: pl.DataFrame
    """`ITEM`, then one String column per text field."""
    histories: pl.DataFrame
    """`USER`, `SPLIT`, `HISTORY` (without the target), `TARGET`, and the `TIMES` of the history (unix
    seconds; null where the data has none), by rising user id. Where a user has several rows, `USER` is the
    row's id and `PERSON` the user's; see `trsr.data.protocols`."""
    candidates: pl.DataFrame
    """`USER`, `SPLIT`, `TARGET`, `CANDIDATES` (the target among them), and the seed and the sampler that they
    were drawn with, in the same order; of impressions their `POSITIVES`, too."""
    background: pl.DataFrame
    """`USER` and `ITEMS`, oldest first: users whom the window leaves out as too short. Models learn from
    them; nobody is measured on them."""
    findings: tuple[Finding, ...]


def prepare(config: Config) -> Prepared:
    """Read the data, choose users, split them and draw candidates.

    Of the settings, `data`, `history`, `split`, `candidates` and `seed` are used. Raises DataError,
    with what was noticed until then, when the data can't be read, no user is left, a part of the
    split would be empty, or the catalogue is too small.

    Examples
    --------
    >>> from trsr.config.data import DemoData
    >>> prepared = prepare(Config(data=DemoData(users=100, items=100)))
    >>> prepared.candidates["candidates"].list.len().unique().to_list()
    [21]
    """
    dataset, noticed = read(config.data, config.seed)
    return choose(dataset, noticed, config)


def choose(dataset: Dataset, noticed: tuple[Finding, ...], config: Config) -> Prepared:
    """Do all of `prepare` that comes after reading, raising as it does; `noticed` is what reading found."""
    kept, windowed = apply_window(dataset.histories, config.history)
    if config.split.protocol != "users":  # the window is one of rows, and each protocol tells of its own
        windowed = ()
    try:
        histories, candidates, background, taken = _chosen(dataset, kept, config)
    except DataError as error:
        error.findings = (*noticed, *windowed, *error.findings)
        raise
    findings = (*noticed, *windowed, *taken, *_repeated_targets(histories))
    return Prepared(dataset.items, histories, candidates, background, findings)


def _chosen(
    dataset: Dataset, kept: pl.DataFrame, config: Config
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    if kept.is_empty():
        longest = max(dataset.histories[ITEMS].list.len(), default=0)
        message = (
            f"no user is left: history.min is {config.history.min} interactions, and the longest of "
            f"{dataset.histories.height:,} histories has {longest}; lower history.min"
        )
        raise DataError(message)
    if config.split.protocol != "users":
        histories, background, found = divide(dataset, config)
        candidates, given = _candidates(dataset, histories, background, config)
        return histories, candidates, background, (*found, *given)
    everybody = split_users(kept.sort(USER), config.split, config.seed)
    if config.candidates.file is not None:
        everybody = with_listed_users(everybody, config.candidates.file)
    divided, taken = take_users(everybody, config.history.users, config.seed)
    last = pl.col(ITEMS).list.len() - 1
    histories = divided.select(
        USER,
        SPLIT,
        pl.col(ITEMS).list.head(last).alias(HISTORY),
        pl.col(ITEMS).list.last().alias(TARGET),
        pl.col(TIMES).list.head(last),
    )
    background = _background(dataset.histories, divided, config)
    if divided.height < everybody.height:  # a trial is to cost little: nothing is learnt from those left out
        background = background.clear()
    candidates, given = _candidates(dataset, histories, background, config)
    return histories, candidates, background, (*taken, *given)


def _candidates(
    dataset: Dataset, histories: pl.DataFrame, background: pl.DataFrame, config: Config
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    drawn = draw_candidates(histories, dataset.items, config.candidates, config.seed, background)
    return given_candidates(drawn, dataset, config)


def save(prepared: Prepared, folder: RunFolder) -> None:
    """Write everything into the run folder."""
    write_parquet(prepared.items, folder.items)
    write_parquet(prepared.histories, folder.histories)
    write_parquet(prepared.candidates, folder.candidates)
    write_parquet(prepared.background, folder.background)
    write_json([asdict(finding) for finding in prepared.findings], folder.findings)


def read_items(folder: RunFolder) -> pl.DataFrame:
    """Read the items as models read them: with captions in the place of images, where a run has made some."""
    if folder.captioned.exists():
        return read_parquet(folder.captioned)
    return read_parquet(folder.require(folder.items, "prepare"))


def load(folder: RunFolder, *, captioned: bool = True) -> Prepared:
    """Read what `save` wrote, the items with or without captions.

    Raises ArtifactError when a file is missing or damaged.
    """
    path = folder.require(folder.items, "prepare")
    items = read_items(folder) if captioned else read_parquet(path)
    histories, candidates, background = (
        read_parquet(folder.require(path, "prepare"))
        for path in (folder.histories, folder.candidates, folder.background)
    )
    path = folder.require(folder.findings, "prepare")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        findings = tuple(Finding(**row | {"examples": tuple(row["examples"])}) for row in rows)
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path}: not a list of findings ({error}); run `trsr prepare` again"
        raise ArtifactError(message) from error
    return Prepared(items, histories, candidates, background, findings)


def _background(histories: pl.DataFrame, divided: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Find the users who only train; when the split goes by time, only what came before it."""
    if not config.history.background:
        return histories.clear().select(USER, ITEMS)
    short = too_short(histories, config.history)
    if config.split.by == "time":
        measured = divided.filter(pl.col(SPLIT) != Split.TRAIN)
        first = measured.select(pl.col(TIMES).list.last().min()).item()
        short = short.filter(pl.col(TIMES).list.last() < first)
    return short.select(USER, ITEMS).sort(USER)


def _repeated_targets(histories: pl.DataFrame) -> tuple[Finding, ...]:
    repeated = histories.filter(pl.col(HISTORY).list.contains(pl.col(TARGET)))
    if repeated.is_empty():
        return ()
    examples = repeated.head(5).select(USER, TARGET).iter_rows()
    message = (
        f"{repeated.height:,} of {histories.height:,} users have a target that they took before; negatives "
        "never are, so that such targets can be told by that alone"
    )
    listed = tuple(f"user {user}: item {item}" for user, item in examples)
    return (Finding("repeated-target", message, repeated.height, "noted", listed),)


_EXAMPLES = 5


def too_short(histories: pl.DataFrame, window: HistoryWindow) -> pl.DataFrame:
    """Return the histories that the window leaves out but that still tell what follows what.

    Columns are `USER`, `ITEMS` and `TIMES`, oldest first; each history that is given has 2
    interactions or more.

    Examples
    --------
    >>> rows = {"user_id": ["u", "v", "w"], "item_ids": [["a", "b", "c"], ["a", "b"], ["a"]]}
    >>> too_short(pl.DataFrame(rows), HistoryWindow(min=3, max=9))["user_id"].to_list()
    ['v']
    """
    return histories.filter(pl.col(ITEMS).list.len().is_between(2, window.min - 1))


def apply_window(histories: pl.DataFrame, window: HistoryWindow) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Leave out histories that are too short and cut those that are too long to their newest part.

    Columns are `USER`, `ITEMS` and `TIMES`, oldest first; the last item will be the target and
    counts. The findings say how many users each rule concerned.

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


def split_users(histories: pl.DataFrame, rule: SplitRule, seed: int) -> pl.DataFrame:
    """Add the column `SPLIT`.

    By hash, a user's part depends on the user's id and the seed alone: it stays the
    same when rows move or other users come and go, and shares hold on average. By
    time, users are ordered by their last interaction and shares hold exactly.

    Raises DataError when a part would be empty, or times are needed and missing.
    """
    by_hash = rule.by == "hash"
    split = _by_hash(histories, rule, seed) if by_hash else _by_time(histories, rule, seed)
    names = np.array([Split.TRAIN.value, Split.VALID.value, Split.TEST.value], dtype=object)
    divided = histories.with_columns(pl.Series(SPLIT, names[split], dtype=pl.String))
    empty = [name for place, name in enumerate(names) if not (split == place).any()]
    if empty:
        message = (
            f"split: no user for {' and '.join(empty)} among {histories.height:,} users; give more users, "
            "widen history.min and history.max, raise split.valid and split.test, or take another seed"
        )
        raise DataError(message)
    return divided


def take_users(
    divided: pl.DataFrame, count: int | None, seed: int
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Take some of the users who were split, all for None, in their order; the finding says how many.

    Whom, the user's id and the seed decide alone: a larger trial holds a smaller one, and each user is in the
    same part as when all take part. Raises DataError when a part of the split would be empty.

    Examples
    --------
    >>> users = pl.DataFrame({"user_id": list("abcd"), "split": ["train", "train", "valid", "test"]})
    >>> take_users(users, 3, seed=0)[0]["user_id"].to_list()
    ['a', 'c', 'd']
    """
    if count is None:
        return divided, ()
    if count >= divided.height:
        message = f"all {divided.height:,} users are taken: {count:,} were asked for (history.users)"
        return divided, (Finding("few-users", message, divided.height, "noted"),)
    order = np.argsort(user_keys(divided[USER], seed, "users"), kind="stable")
    parts = divided[SPLIT].gather(order)
    first = {part.value: parts.index_of(part.value) or 0 for part in Split}
    empty = [part for part, place in first.items() if place >= count]
    if empty:
        enough = max(first.values()) + 1
        message = (
            f"history.users: of {divided.height:,} users, the {count:,} drawn hold nobody for "
            f"{' and '.join(empty)}; ask for {enough:,} or more (--users {enough}), or take another seed"
        )
        raise DataError(message)
    message = (
        f"{count:,} of {divided.height:,} users taken by seed {seed} (history.users); nothing is learnt or "
        "counted from the others, nor from histories that are too short"
    )
    taken = divided[np.sort(order[:count])]
    return taken, (Finding("trial", message, count, "noted"),)


def _by_hash(
    histories: pl.DataFrame, rule: SplitRule, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    place = uniforms(user_keys(histories[USER], seed, "split"), 1)[:, 0]
    return np.where(place < rule.test, 2, np.where(place < rule.test + rule.valid, 1, 0))


def _by_time(
    histories: pl.DataFrame, rule: SplitRule, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    targets = histories[TIMES].list.last()
    if targets.null_count():
        message = (
            f"split.by time needs a time for every target, {targets.null_count():,} of "
            f"{histories.height:,} users have none; set split.by to hash, or name data's time column"
        )
        raise DataError(message)
    # Users of one and the same time are ordered by their keys, so that ids carry no order.
    order = np.lexsort((user_keys(histories[USER], seed, "split"), targets.to_numpy()))
    n_test, n_valid = round(rule.test * len(order)), round(rule.valid * len(order))
    split = np.zeros(len(order), dtype=np.intp)
    split[order[len(order) - n_test - n_valid :]] = 1
    split[order[len(order) - n_test :]] = 2
    return split
