"""The files that RecBole, RecTools and TREC tools read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, assert_never

import polars as pl
import yaml

from trsr.artifacts import RunFolder, write_parquet, write_text
from trsr.data.candidates import SAMPLER
from trsr.interop.candidates import (
    Frozen,
    open_frozen,
    ranked_pairs,
    system_scores,
    to_plain,
    write_qrels,
    write_run,
)
from trsr.records import HISTORY, ITEM, ITEMS, SCORE, SPLIT, TARGET, USER, Split, Tool

_INTER_HEADER: Final = "user_id:token\titem_id_list:token_seq\titem_id:token\n"


def write_recbole(frozen: Frozen, name: str, out: Path) -> tuple[Path, ...]:
    """Write a data set that RecBole reads, and the pairs that are to be scored.

    `name` is what RecBole calls the data set, `out` its ``data_path``. Files come into ``out/name``:
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


def write_rectools(frozen: Frozen, systems: Mapping[str, pl.DataFrame], out: Path) -> tuple[Path, ...]:
    """Write what RecTools trains on, ranks, and measures; `systems` is name to `USER`, `ITEM` and `SCORE`.

    Written are ``interactions`` (of training and background users), ``context`` (what measured users took
    before their targets), ``targets_valid`` and ``targets_test``, ``items``, ``candidates``, and one
    ``reco_SYSTEM_SAMPLER`` per system that has scored all pairs of a sampler.
    """
    histories, background = frozen.prepared.histories, frozen.prepared.background
    trains = pl.col(SPLIT) == Split.TRAIN.value
    whole = pl.concat_list(HISTORY, TARGET).alias(ITEMS)
    told = pl.concat([histories.filter(trains).select(USER, whole), background.select(USER, ITEMS)])
    tables = {
        "interactions": _interactions(told),
        "context": _interactions(histories.filter(~trains).select(USER, pl.col(HISTORY).alias(ITEMS))),
    }
    for split in (Split.VALID, Split.TEST):
        measured = histories.filter(pl.col(SPLIT) == split.value).select(USER, whole)
        tables[f"targets_{split}"] = _interactions(measured).group_by(USER, maintain_order=True).last()
    tables["items"] = frozen.prepared.items
    tables["candidates"] = pl.concat(
        [
            frozen.pairs(sampler).select(USER, ITEM, SPLIT, pl.lit(sampler).alias(SAMPLER))
            for sampler in frozen.candidates
        ]
    )
    for name, scores in systems.items():
        for sampler in frozen.candidates:
            ranked = ranked_pairs(frozen, sampler, scores)
            if ranked is not None:
                tables[f"reco_{name}_{sampler}"] = ranked.select(USER, ITEM, SCORE, "rank")
    paths = []
    for name, table in tables.items():
        paths.append(out / f"{name}.parquet")
        write_parquet(table, paths[-1])
    return tuple(paths)


def _interactions(users: pl.DataFrame) -> pl.DataFrame:
    """One row an interaction: `USER`, `ITEM`, ``weight`` and ``datetime``."""
    flat = users.explode(ITEMS).rename({ITEMS: ITEM})
    place = pl.int_range(pl.len()).over(USER)
    return flat.select(
        USER,
        ITEM,
        pl.lit(1.0).alias("weight"),
        (place * 1_000_000).cast(pl.Datetime("us")).alias("datetime"),
    )


_RECBOLE_NAME: Final = "trsr"


DataTool = Literal[Tool.TREC, Tool.RECBOLE, Tool.RECTOOLS]


def export(folder: RunFolder, to: DataTool, out: Path) -> tuple[Path, ...]:
    """Write a prepared run's frozen candidates, and the scores that lie in it, in another tool's form.

    ``trec``: qrels and runs. ``recbole``: atomic files with the split. ``rectools``: tables. Returns what
    was written. Raises ArtifactError when the run is not prepared, or `out` can't be written.
    """
    frozen = open_frozen(folder)
    match to:
        case Tool.RECBOLE:
            return write_recbole(frozen, _RECBOLE_NAME, out)
        case Tool.RECTOOLS:
            return write_rectools(
                frozen, {_file_name(name): scores for name, scores in system_scores(folder).items()}, out
            )
        case Tool.TREC:
            paths = []
            for split in (Split.VALID, Split.TEST):
                paths.append(out / f"qrels.{split}.txt")
                write_qrels(frozen, split, paths[-1])
            for name, scores in system_scores(folder).items():
                path = out / f"run.{_file_name(name)}.txt"
                if write_run(frozen, scores, name, path):
                    paths.append(path)
            return tuple(paths)
        case _:
            assert_never(to)


def _file_name(name: str) -> str:
    """Make a system's name part of a file's name.

    Examples
    --------
    >>> _file_name("my_systems.nearest:Nearest")
    'my_systems.nearest_Nearest'
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")
