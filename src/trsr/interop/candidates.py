"""What a run has frozen for everybody, the scores so far, and both as TREC tools read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_text
from trsr.data.candidates import SAMPLER
from trsr.data.notes import LINE, Notes
from trsr.data.prepare import Prepared, load
from trsr.data.text_files import TEXT, read_lines
from trsr.errors import DataError
from trsr.records import CANDIDATES, IN_CATALOGUE, ITEM, SCORE, SPLIT, TARGET, USER, Split


@dataclass(frozen=True, slots=True)
class Frozen:
    """A run as other tools see it.

    `candidates` is the name of a sampler, the run's own first, to `USER`, `SPLIT`, `TARGET` and
    `CANDIDATES` of the measured users, by rising user id.
    """

    prepared: Prepared
    candidates: Mapping[str, pl.DataFrame]

    def pairs(self, sampler: str) -> pl.DataFrame:
        """Give the pairs of one sampler: `USER`, `SPLIT`, `ITEM` and whether it is the `TARGET`.

        Their order is that of the frozen candidates, which was shuffled user by user, so that
        whoever breaks ties by it breaks them by chance.
        """
        return (
            self.candidates[sampler]
            .select(USER, SPLIT, TARGET, pl.col(CANDIDATES).alias(ITEM))
            .explode(ITEM)
            .select(USER, SPLIT, ITEM, (pl.col(ITEM) == pl.col(TARGET)).alias(TARGET))
        )

    def all_pairs(self) -> pl.DataFrame:
        """Give `USER`, `SPLIT` and `ITEM` of all samplers' pairs, each once."""
        every = [self.pairs(sampler).select(USER, SPLIT, ITEM) for sampler in self.candidates]
        return pl.concat(every).unique(maintain_order=True)


def open_frozen(folder: RunFolder) -> Frozen:
    """Read a run's data, and the candidates of further samplers where a comparison has drawn them.

    Raises ArtifactError when the run is not prepared, or a file is damaged.
    """
    prepared = load(folder)
    further = sorted((folder.path / "comparison").glob("candidates_*.parquet"))
    candidates = {}
    for frame in (prepared.candidates, *map(read_parquet, further)):
        measured = frame.filter(pl.col(SPLIT) != Split.TRAIN.value).sort(USER)
        if measured.height:
            candidates[str(measured[SAMPLER][0])] = measured.select(USER, SPLIT, TARGET, CANDIDATES)
    return Frozen(prepared, candidates)


def system_scores(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read the scores that lie in the run folder: its own, the baselines', and all that were imported.

    Name to `USER`, `ITEM` and `SCORE`; empty for a run that has scored nothing yet.
    """
    files = [path for path in folder.scores.glob("*.parquet") if not path.stem.endswith(IN_CATALOGUE)]
    own = {path.stem: read_parquet(path) for path in sorted(files)}
    # Rows of the run's own sampler come first: what a fused ranker says depends on how candidates were drawn.
    found = {
        name: rows.unique([USER, ITEM], keep="first", maintain_order=True).select(USER, ITEM, SCORE)
        for name, rows in own.items()
    }
    return found | imported_scores(folder)


def imported_scores(folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read what `trsr import` has put into the run folder: name to `USER`, `ITEM` and `SCORE`, by name."""
    files = sorted(imported_path(folder, "").parent.glob("*.parquet"))
    return {file.stem: read_parquet(file).select(USER, ITEM, SCORE) for file in files}


def imported_path(folder: RunFolder, name: str) -> Path:
    """Say where the scores of an outside system lie."""
    return folder.path / "imported" / f"{name}.parquet"


_IN_THE_WAY: Final = r'[\s\x00-\x1f\x7f-\x9f%"]'


def to_plain(ids: pl.Series) -> pl.Series:
    """Write white space, control characters, quotes and ``%`` as in addresses (``%20``); all else stays.

    Examples
    --------
    >>> to_plain(pl.Series(["a b", "50%", "é"])).to_list()
    ['a%20b', '50%25', 'é']
    """
    return _mapped(ids, _IN_THE_WAY, lambda text: re.sub(_IN_THE_WAY, lambda found: quote(found[0]), text))


def from_plain(ids: pl.Series) -> pl.Series:
    """Undo `to_plain`.

    Examples
    --------
    >>> from_plain(pl.Series(["a%20b", "50%25"])).to_list()
    ['a b', '50%']
    """
    return _mapped(ids, "%", unquote)


def _mapped(ids: pl.Series, concerned: str, change: Callable[[str], str]) -> pl.Series:
    """Change the few ids that need it, each once."""
    touched = ids.filter(ids.str.contains(concerned)).unique()
    return ids.replace(touched, pl.Series([change(text) for text in touched], dtype=pl.String))


_FIELDS: Final = ("query", "Q0", "document", "rank", "score", "tag")


def write_qrels(frozen: Frozen, split: str, path: Path) -> None:
    """Write which candidate is the target: relevance 1 for it, 0 for the negatives.

    Queries are those of the split's users, for every sampler.
    """
    lines = []
    for sampler in frozen.candidates:
        pairs = frozen.pairs(sampler).filter(pl.col(SPLIT) == split)
        relevance = pairs[TARGET].cast(pl.Int8)
        rows = zip(_queries(pairs, sampler), to_plain(pairs[ITEM]), relevance, strict=True)
        lines += [f"{query} 0 {item} {value}\n" for query, item, value in rows]
    write_text("".join(lines), path)


def write_run(frozen: Frozen, scores: pl.DataFrame, name: str, path: Path) -> tuple[str, ...]:
    """Write one system's scores of all samplers of which it has scored every pair; return these samplers.

    `scores` has `USER`, `ITEM` and `SCORE`; `name` is the tag of every line. The file is not written
    when no sampler is complete.
    """
    lines, written = [], []
    for sampler in frozen.candidates:
        ranked = ranked_pairs(frozen, sampler, scores)
        if ranked is None:
            continue
        written.append(sampler)
        tag = to_plain(pl.Series([name]))[0]
        rows = zip(
            _queries(ranked, sampler), to_plain(ranked[ITEM]), ranked["rank"], ranked[SCORE], strict=True
        )
        lines += [f"{query} Q0 {item} {rank} {score!r} {tag}\n" for query, item, rank, score in rows]
    if written:
        write_text("".join(lines), path)
    return tuple(written)


def read_run(path: Path, samplers: Mapping[str, object]) -> pl.DataFrame:
    """Read a run file, gzipped or not, whose queries are called as `write_qrels` calls them.

    Gives `LINE`, `USER`, `ITEM` and `SCORE` (as text), in the order of the file; queries are known by
    the names of the run's samplers. Raises DataError when a line has not six fields, or a query is none
    of the run's.
    """
    lines = read_lines(path, Notes()).filter(pl.col(TEXT).str.strip_chars() != "")
    fields = lines.select(LINE, pl.col(TEXT).str.extract_all(r"\S+").alias("fields"))
    wrong = fields.filter(pl.col("fields").list.len() != len(_FIELDS))
    if wrong.height:
        line, found = wrong.row(0)
        message = (
            f"{path}:{line}: a line of a TREC run has the six fields {' '.join(_FIELDS)}, got {len(found)}: "
            f"{' '.join(found)[:80]!r}"
        )
        raise DataError(message)
    parts = pl.col("fields").list.get(0).str.splitn(":", 2).struct
    rows = fields.select(
        LINE,
        parts.field("field_0").alias("sampler"),
        parts.field("field_1").alias(USER),
        pl.col("fields").list.get(2).alias(ITEM),
        pl.col("fields").list.get(4).alias(SCORE),
    )
    unknown = rows.filter(~pl.col("sampler").is_in(list(samplers)) | pl.col(USER).is_null())
    if unknown.height:
        line, sampler, user = unknown.select(LINE, "sampler", USER).row(0)
        query = sampler if user is None else f"{sampler}:{user}"
        message = (
            f"{path}:{line}: queries are called SAMPLER:USER with a sampler of {', '.join(samplers)}, got "
            f"{query!r}; score the queries of the exported qrels"
        )
        raise DataError(message)
    return rows.select(LINE, from_plain(rows[USER]), from_plain(rows[ITEM]), SCORE)


def ranked_pairs(frozen: Frozen, sampler: str, scores: pl.DataFrame) -> pl.DataFrame | None:
    """Put a sampler's pairs into a system's order: `USER`, `SPLIT`, `ITEM`, `SCORE` and ``rank`` from 1.

    Equal scores keep the frozen order, which is shuffled. None when a pair has no score.
    """
    joined = frozen.pairs(sampler).join(
        scores.select(USER, ITEM, SCORE), on=[USER, ITEM], how="left", maintain_order="left"
    )
    if joined[SCORE].null_count():
        return None
    falling = joined.sort(USER, SCORE, descending=[False, True], maintain_order=True)
    rank = pl.int_range(1, pl.len() + 1).over(USER)
    return falling.select(USER, SPLIT, ITEM, SCORE, rank.cast(pl.Int64).alias("rank"))


def _queries(pairs: pl.DataFrame, sampler: str) -> pl.Series:
    return (sampler + ":" + to_plain(pairs[USER])).alias("query")
