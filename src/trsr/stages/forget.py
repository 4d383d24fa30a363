"""Taking one user out of a run folder."""

from __future__ import annotations

from dataclasses import asdict, replace

import polars as pl

from trsr.artifacts import RunFolder, hash_path, read_parquet, write_json, write_parquet
from trsr.records import USER


def forget_user(folder: RunFolder, user_id: str) -> list[str]:
    """Delete a user's rows from every table of a run folder, and the page that may show the user.

    The manifest takes in the changed tables, so that the next ``trsr run`` prepares
    nothing again, but trains and measures without the user. Raw data isn't touched.

    Returns
    -------
    list of str
        What was removed, and what still knows the user, a line each; empty when the
        folder doesn't know the user.

    Raises
    ------
    ArtifactError
        When a table can't be read or written.
    """
    removed: list[str] = []
    for path in sorted(folder.path.rglob("*.parquet")):
        if USER not in pl.read_parquet_schema(path):
            continue
        frame = read_parquet(path)
        others = frame.filter(pl.col(USER) != user_id)
        if gone := frame.height - others.height:
            write_parquet(others, path)
            removed.append(f"{path}: {gone:,} rows")
    if not removed:
        return []
    if folder.report.exists():
        folder.report.unlink()
        removed.append(f"{folder.report}: the page, which shows users")
    _take_in(folder)
    if folder.model.exists():
        removed.append(f"{folder.model} was trained with this user: run `trsr run` again to train without")
    removed.append("raw data was not touched: take the user out of it too, before the data is prepared again")
    return removed


def _take_in(folder: RunFolder) -> None:
    """Put the hashes of the changed tables into the manifest."""
    entries = {}
    for name, entry in folder.stages().items():
        paths = {output: folder.path / output for output in entry.outputs}
        hashes = {output: hash_path(path) for output, path in paths.items() if path.exists()}
        if len(hashes) == len(paths):  # a stage whose artifact is deleted isn't complete any more
            entries[name] = asdict(replace(entry, outputs=hashes))
    if entries:
        write_json(entries, folder.manifest)
