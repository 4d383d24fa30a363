"""RecBole's atomic files, with the split made beforehand.

RecBole's ``benchmark_filename`` takes three files as they are. A row is one example
of next-item prediction: a user, the items so far, the next item. Training users give
one row a position, as RecBole's own augmentation would; validation and test users give
the one row that is measured. There is no file of all interactions, for RecBole would
split it anew, and test targets would come into training.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import yaml

from trsr.artifacts import write_text
from trsr.exchange.frozen import Frozen
from trsr.exchange.plain_ids import to_plain
from trsr.records import HISTORY, ITEM, ITEMS, SPLIT, TARGET, USER, Split

_INTER_HEADER: Final = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def write_recbole(frozen: Frozen, name: str, out: Path) -> tuple[Path, ...]:
    """Write a data set that RecBole reads, and the pairs that are to be scored.

    Parameters
    ----------
    frozen
        The run.
    name
        What RecBole calls the data set.
    out
        The folder, RecBole's ``data_path``; files come into ``out/name``.

    Returns
    -------
    tuple[pathlib.Path, ...]
        ``name.item``, three ``.inter``, ``candidates.tsv`` and ``recbole.yaml``.
    """
    folder = out / name
    items = folder / f"{name}.item"
    write_text(_items(frozen), items)
    paths = [items]
    for split in Split:
        path = folder / f"{name}.{split}.inter"
        write_text(_INTER_HEADER + "".join(_examples(frozen, split)), path)
        paths.append(path)
    candidates = out / "candidates.tsv"
    write_text(_candidates(frozen), candidates)
    settings = out / "recbole.yaml"
    write_text(yaml.safe_dump(_settings(frozen, name, out), sort_keys=False), settings)
    return (*paths, candidates, settings)


def _items(frozen: Frozen) -> str:
    items = frozen.prepared.items
    fields = [column for column in items.columns if column != ITEM]
    header = "\t".join(["item_id:token", *(f"{_field(field)}:token_seq" for field in fields)])
    # A tab or a quote inside a text would move every field behind it.
    texts = [pl.col(field).str.replace_all(r"\s+", " ").str.replace_all('"', "'") for field in fields]
    rows = items.select(to_plain(items[ITEM]), *texts)
    lines = rows.select(pl.concat_str(pl.all(), separator="\t")).to_series()
    return "\n".join([header, *lines]) + "\n"


def _field(name: str) -> str:
    """Make a column's name safe for a header of ``name:type`` fields."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _examples(frozen: Frozen, split: Split) -> Iterator[str]:
    mine = frozen.prepared.histories.filter(pl.col(SPLIT) == split.value)
    if split is not Split.TRAIN:
        for user, history, target in _plain(mine.select(USER, pl.concat_list(HISTORY, TARGET).alias(ITEMS))):
            yield f"{user}\t{' '.join(history)}\t{target}\n"
        return
    told = mine.select(USER, pl.concat_list(HISTORY, TARGET).alias(ITEMS))
    for user, history, target in _plain(pl.concat([told, frozen.prepared.background.select(USER, ITEMS)])):
        whole = [*history, target]
        for end in range(1, len(whole)):
            yield f"{user}\t{' '.join(whole[:end])}\t{whole[end]}\n"


def _plain(rows: pl.DataFrame) -> Iterator[tuple[str, list[str], str]]:
    """Give user, items but the last, and the last item, all as plain ids."""
    flat = rows.select(USER, ITEMS).explode(ITEMS)
    lists = (
        flat.with_columns(to_plain(flat[USER]), to_plain(flat[ITEMS]))
        .group_by(USER, maintain_order=True)
        .agg(ITEMS)
    )
    for user, items in lists.iter_rows():
        yield user, items[:-1], items[-1]


def _candidates(frozen: Frozen) -> str:
    lines = ["user_id:token\titem_id:token\tsplit:token\tsampler:token\n"]
    for sampler in frozen.candidates:
        pairs = frozen.pairs(sampler)
        rows = zip(to_plain(pairs[USER]), to_plain(pairs[ITEM]), pairs[SPLIT], strict=True)
        lines += [f"{user}\t{item}\t{split}\t{sampler}\n" for user, item, split in rows]
    return "".join(lines)


def _settings(frozen: Frozen, name: str, out: Path) -> dict[str, Any]:
    fields = [_field(column) for column in frozen.prepared.items.columns if column != ITEM]
    lists = (frozen.prepared.histories[HISTORY], frozen.prepared.background[ITEMS])
    longest = max(int(column.list.len().to_numpy().max(initial=1)) for column in lists)
    return {
        "dataset": name,
        "data_path": str(out),
        "benchmark_filename": [split.value for split in (Split.TRAIN, Split.VALID, Split.TEST)],
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "LIST_SUFFIX": "_list",
        "MAX_ITEM_LIST_LENGTH": longest,
        "alias_of_item_id": ["item_id_list"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id", *fields]},
    }
