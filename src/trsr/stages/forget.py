"""Taking one user out of a run folder.

Every file of the folder is looked at, so that one that a later version adds can't be overlooked: tables
lose the user's rows, pages and exports that show the user are deleted, and what is left is searched, but the
bundle, which knows no user.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import polars as pl

from trsr.artifacts import RunFolder, hash_path, read_parquet, sweep, write_json, write_parquet
from trsr.interop.candidates import to_plain
from trsr.records import BLOCK_SUMMARIES, SUMMARY, USER
from trsr.users import Users

_MADE_AGAIN: Final = (
    "*.html", "qrels.*.txt", "run.*.txt", "*.inter", "candidates.tsv"
)  # fmt: skip
"""Pages, and what `trsr export` writes: deleted when they show the user, for the tables make them again."""
_OF_NO_USER: Final = (
    "config.yaml", "manifest.json", "metrics.json", "comparison.json", "comparison.csv", "ablation.json",
    "study.json", "study.md", "preregistration.json", "seed-*.json", "*.safetensors", "tokenizer*.json",
    "compression.json", "*.usearch",
)  # fmt: skip
"""Settings, hashes, means and weights: what looks like a user's id in them is a number or a word."""
_EXAMPLES: Final = "examples"


def forget_user(folder: RunFolder, user_id: str) -> list[str]:
    """Take a user out of every file of a run folder, also of the runs of its comparison, ablation and study.

    The manifests take in the changed tables, so that the next ``trsr run`` prepares nothing again, but
    trains and measures without the user. Figures that were measured with the user stay. Raw data isn't
    touched. Returned is what was removed, and what still knows the user, a line each; nothing when the
    folder doesn't know the user. Raises `ArtifactError` when a table can't be read or written.
    """
    sweep(folder.path)
    files = sorted(path for path in folder.path.rglob("*") if path.is_file())
    tables = [path for path in files if path.suffix == ".parquet"]
    stores = [path for path in files if path.name == folder.users.name]
    traces = _Traces(user_id, tables, stores)
    current = [path for path in stores if _is_current(path)]
    removed = [line for path in tables for line in _filter(path, user_id)]
    removed += [f"{path}: 1 row" for path in stores if _forget_row(path, user_id)]
    others = [path for path in files if path not in {*tables, *stores} and folder.bundle not in path.parents]
    removed += [line for path in others for line in _clean(path, traces)]
    if not removed:
        return []
    for checkpoints in folder.path.rglob(folder.checkpoints.name):
        shutil.rmtree(checkpoints)
        removed.append(f"{checkpoints}: deleted, an unfinished training with this user")
    for manifest in folder.path.rglob(folder.manifest.name):
        _take_in(RunFolder(manifest.parent))
    for path in current:  # they lost the same user as the tables
        with Users(path) as users:
            users.note_tables(RunFolder(path.parent))
    models = {path.parent for path in folder.path.rglob("*.safetensors")}
    if models:
        removed.append(
            f"{len(models)} models below {folder.path} were trained with this user: `trsr run`, "
            "`trsr compare` and `trsr ablate` train again without; a study must begin anew, by another --out"
        )
    removed.append("figures that were measured with the user stay: they are means over users")
    removed.append(
        "raw data was not touched, nor a table of texts (summary.writer): take the user out of them too, "
        "before the data is prepared again"
    )
    return removed


class _Traces:
    """By what a text is seen to tell of the user: the id as a word, or a summary."""

    def __init__(self, user_id: str, tables: list[Path], stores: list[Path]) -> None:
        forms = {user_id, to_plain(pl.Series([user_id]))[0], json.dumps(user_id)[1:-1]}
        texts = {text.strip() for path in tables for text in _summaries(path, user_id)}
        for path in stores:
            with Users(path) as users:
                rows = users.find([user_id]).values()
            texts |= {
                text.strip() for row in rows for text in (row.shown or "", row.summary or "", *row.blocks)
            }
        texts.discard("")
        words = (rf"(?<!\w){re.escape(form)}(?!\w)" for form in sorted(forms))
        self._pattern = re.compile("|".join([*words, *map(re.escape, sorted(texts))]))

    def __contains__(self, text: str) -> bool:
        return bool(self._pattern.search(text) or self._pattern.search(html.unescape(text)))


def _summaries(path: Path, user_id: str) -> Iterator[str]:
    """Give all that was written about the user."""
    columns = set(pl.read_parquet_schema(path))
    if USER in columns:
        mine = read_parquet(path).filter(pl.col(USER) == user_id)
        if SUMMARY in columns:
            yield from mine[SUMMARY]
        if BLOCK_SUMMARIES in columns:
            yield from mine[BLOCK_SUMMARIES].explode().drop_nulls()


def _is_current(path: Path) -> bool:
    with Users(path) as users:
        return users.is_current(RunFolder(path.parent))


def _forget_row(path: Path, user_id: str) -> bool:
    with Users(path) as users:
        return users.forget(user_id)


def _filter(path: Path, user_id: str) -> Iterator[str]:
    """Delete the user's rows from a table."""
    if USER not in pl.read_parquet_schema(path):
        return
    frame = read_parquet(path)
    others = frame.filter(pl.col(USER) != user_id)
    if gone := frame.height - others.height:
        write_parquet(others, path)
        yield f"{path}: {gone:,} rows"


def _clean(path: Path, traces: _Traces) -> Iterator[str]:
    """Take the user out of a file that is no table, or say that it can't be done."""
    if any(fnmatch(path.name, pattern) for pattern in _OF_NO_USER):
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if text not in traces or (path.suffix == ".json" and not any(map(traces.__contains__, _strings(text)))):
        return
    if any(fnmatch(path.name, pattern) for pattern in _MADE_AGAIN):
        path.unlink()
        yield f"{path}: deleted, it shows the user"
    elif path.name == "findings.json":
        findings = json.loads(text)
        for finding in findings:
            finding[_EXAMPLES] = [shown for shown in finding[_EXAMPLES] if shown not in traces]
        write_json(findings, path)
        yield f"{path}: examples that name the user"
    else:
        yield f"{path}: names the user, and isn't a file that can be made again: look at it and delete it"


def _strings(text: str) -> Iterator[str]:
    """Give the strings of a JSON text: a number in it is no user's id."""
    try:
        waiting = [json.loads(text)]
    except ValueError:
        waiting = [text]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _take_in(folder: RunFolder) -> None:
    """Put the hashes of the changed tables into the manifest."""
    entries = {}
    for name, entry in folder.entries().items():
        paths = {output: folder.path / output for output in entry.outputs}
        hashes = {output: hash_path(path) for output, path in paths.items() if path.exists()}
        if len(hashes) == len(paths):  # a stage whose artifact is deleted isn't complete any more
            entries[name] = asdict(replace(entry, outputs=hashes))
    if entries:
        write_json(entries, folder.manifest)
