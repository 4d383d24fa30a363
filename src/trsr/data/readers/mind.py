"""MIND (Microsoft News): `news.tsv` and `behaviors.tsv`, by tab, no header, quotes without meaning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import MindData
from trsr.data.cleaning import is_empty
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.readers.tables import as_text, first_match, read_table, table_ending
from trsr.data.repair import assemble, explode_lists
from trsr.data.text_files import TEXT, line_blocks, require_columns
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import (
    CANDIDATES,
    HISTORY,
    ITEM,
    ITEMS,
    PERSON,
    POSITIVES,
    SPLIT,
    TIME,
    USER,
    Split,
)

_NEWS: Final = (
    ITEM,
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_FIELDS: Final = ("category", "subcategory", "title", "abstract")
_ID: Final = "news_id"
_ALSO: Final = {"subcategory": ("subcategory", "subvert")}
_BEHAVIORS: Final = ("impression", USER, TIME, "history", "impressions")
_TIME_FORMAT: Final = "%m/%d/%Y %I:%M:%S %p"


class Mind(Reader):
    """MIND, Microsoft News."""

    Settings = MindData
    signs = "MIND (news.tsv, behaviors.tsv)"

    def files(self) -> tuple[Path, ...]:
        """List the two files, then those of further texts, and of impressions that are measured."""
        source: MindData = self.settings
        measured = (*source.valid, source.test) if source.test else ()
        files = (source.path / "news.tsv", source.path / "behaviors.tsv", *source.texts, *measured)
        return tuple(dict.fromkeys(files))

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read MIND, one behaviour row a user.

        A user's history is the history of one row, followed by the news of that row's
        impressions which were clicked (``-1``), in the order in which they are listed.
        The row is the one with the longest history; of several, the latest; of several
        still, the last in the file. MIND keeps a user's history fixed within a file, so
        the clicks of the user's other rows belong to no sequence and are left out.
        Where impressions of this file are measured, none of its clicks belongs to a sequence: a
        user's is the history alone, and of histories that differ the shortest.

        Clicks of the history have no time of their own. All of a row's interactions get
        the time of the row: they happened then or before.

        Raises DataError when a file is missing or nothing is left.
        """
        source: MindData = self.settings
        news_file, behaviors_file, *_ = self.files()
        news = _news(news_file, source, notes)
        rows = read_delimited(
            behaviors_file, "\t", notes, columns=_BEHAVIORS, quoted=False, encoding=source.encoding
        )
        shown = pl.col("impressions")
        odd = rows.filter(
            pl.col("impressions").str.contains(r"(?:^|\s)\S*[^\s]-[^01\s]\S*|(?:^|\s)[^\s-]+(?:\s|$)")
        )
        notes.add(
            "unlabelled-impression",
            "impressions without a label 0 or 1 count as not clicked",
            "noted",
            odd,
            shown,
        )
        events = explode_lists(_one_row_a_user(rows, _measured(behaviors_file, source), notes), notes)
        items = _joined(news, source, notes)
        _note_known_share(rows["history"], news, items, bool(source.texts), notes)
        dataset = assemble(items, events, notes, null_words=source.null_words, listed=True)
        return replace(dataset, impressions=_impressions(dataset.items[ITEM], source, notes))

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> MindData | None:
        """Recognise the files; see `Reader`."""
        known = {"news.tsv", "behaviors.tsv"} <= names
        return MindData(format="mind", path=folder) if known else None


_LABEL: Final = "label"
_SHOWN: Final = (LINE, USER, PERSON, HISTORY, CANDIDATES, POSITIVES)


def _impressions(known: pl.Series, source: MindData, notes: Notes) -> pl.DataFrame | None:
    """Read what `Dataset.impressions` holds; None when the settings name no such files."""
    if source.test is None:
        return None
    rows = [
        _shown(path, Split.VALID, number, known, source, notes) for number, path in enumerate(source.valid)
    ]
    return pl.concat([*rows, _shown(source.test, Split.TEST, 0, known, source, notes)])


def _measured(path: Path, source: MindData) -> bool:
    """Say whether impressions of a file are measured, by whatever way its name leads to it."""
    return path.resolve() in [each.resolve() for each in (*source.valid, source.test) if each]


def _shown(
    path: Path, part: Split, number: int, known: pl.Series, source: MindData, notes: Notes
) -> pl.DataFrame:
    """Read the rows of a part's first file (0) or a further one, whose impressions may have the same ids."""
    read = _shown_in_table if _is_table(path, source) else _shown_in_behaviors
    training = path.resolve() == (source.path / "behaviors.tsv").resolve()
    # What is wrong with the lines of the training file was told when its histories were read.
    rows = read(path, source, Notes() if training else notes)
    label = f"{part}{number + 1}" if number else part.value
    rows = rows.with_columns(pl.lit(path.name).alias(FILE), pl.format(f"{label}:{{}}", USER).alias(USER))
    if part is Split.VALID:
        rows = _with_known_candidates(rows, known, notes)
    mixed = (pl.col(POSITIVES).list.len() > 0) & (
        pl.col(POSITIVES).list.len() < pl.col(CANDIDATES).list.len()
    )
    message = (
        "impressions without a positive, or with nothing else, have no order to measure, and are left out"
    )
    notes.add("one-sided-impression", message, "dropped", rows.filter(~mixed), USER)
    rows = rows.filter(mixed)
    asked = rows.select(LINE, CANDIDATES).explode(CANDIDATES)
    strange = asked.filter(~pl.col(CANDIDATES).is_in(known.implode()))
    if strange.height:
        message = (
            f"{path}:{strange[LINE][0]}: the candidate {strange[CANDIDATES][0]!r} is in no file of news "
            f"({strange.height:,} such candidates); name a file that has its text in data.texts"
        )
        raise DataError(message)
    before = int(rows[HISTORY].list.len().sum())
    rows = rows.with_columns(
        pl.lit(part.value).alias(SPLIT),
        pl.col(HISTORY).list.eval(pl.element().filter(pl.element().is_in(known.implode()))),
    )
    lost = before - int(rows[HISTORY].list.len().sum())
    message = "clicks in histories of measured impressions are of news without a text, and are left out"
    notes.count("unknown-item", message, "dropped", lost)
    # Of an impression that doesn't say whose it is, nothing is known to be another's.
    return rows.select(USER, pl.coalesce(PERSON, USER).alias(PERSON), SPLIT, HISTORY, CANDIDATES, POSITIVES)


def _with_known_candidates(rows: pl.DataFrame, known: pl.Series, notes: Notes) -> pl.DataFrame:
    """Leave out candidates without a text."""
    before = int(rows[CANDIDATES].list.len().sum())
    has_text = pl.element().filter(pl.element().is_in(known.implode()))
    rows = rows.with_columns(pl.col(CANDIDATES, POSITIVES).list.eval(has_text))
    left_out = before - int(rows[CANDIDATES].list.len().sum())
    message = (
        f"of {before:,} candidates of validation impressions are of news without a text, and are left out; "
        "data.texts takes further files of texts"
    )
    notes.count("unknown-candidate", message, "dropped", left_out)
    return rows


def _shown_in_table(path: Path, source: MindData, notes: Notes) -> pl.DataFrame:
    """Read a table with ids one a line, whose label says which candidates were clicked, from 1 on."""
    table = read_table(path, notes, source.encoding)
    names = ("impression_id", f"history_{_ID}", f"candidate_{_ID}", _LABEL)
    require_columns(path, table, names)
    impression, history, candidates, label = (as_text(table[name]).fill_null("") for name in names)
    clicked = label.str.extract_all(r"\d+").cast(pl.List(pl.Int64)).list.eval(pl.element() - 1)
    shown = candidates.str.extract_all(r"\S+")
    rows = pl.DataFrame(
        {
            LINE: table[LINE],
            USER: impression,
            HISTORY: history.str.extract_all(r"\S+"),
            CANDIDATES: shown,
            "at": clicked,
        }
    )
    beyond = rows.filter(pl.col("at").list.max() >= pl.col(CANDIDATES).list.len())
    if beyond.height:
        message = (
            f"{path}:{beyond[LINE][0]}: the label names candidate {beyond['at'].list.max()[0] + 1} of "
            f"{beyond[CANDIDATES].list.len()[0]}; mend the row"
        )
        raise DataError(message)
    return rows.with_columns(
        pl.col(CANDIDATES).list.gather(pl.col("at")).alias(POSITIVES),
        pl.lit(None, dtype=pl.String).alias(PERSON),
    ).select(_SHOWN)


def _shown_in_behaviors(path: Path, source: MindData, notes: Notes) -> pl.DataFrame:
    rows = read_delimited(path, "\t", notes, columns=_BEHAVIORS, quoted=False, encoding=source.encoding)
    shown = pl.col("impressions").str.extract_all(r"\S+")
    clicked = shown.list.eval(pl.element().filter(pl.element().str.ends_with("-1")))
    return rows.select(
        LINE,
        pl.col("impression").alias(USER),
        pl.col(USER).alias(PERSON),
        pl.col("history").str.extract_all(r"\S+").alias(HISTORY),
        shown.list.eval(pl.element().str.replace(r"-[01]$", "")).alias(CANDIDATES),
        clicked.list.eval(pl.element().str.strip_suffix("-1")).alias(POSITIVES),
    ).select(_SHOWN)


def _is_table(path: Path, source: MindData) -> bool:
    """Say whether a file names its columns, as a `behaviors.tsv` and a `news.tsv` don't."""
    if table_ending(path) != ".tsv":
        return True
    first = next(line_blocks(path, Notes(), 1 << 16, encoding=source.encoding), None)
    return first is None or any(name.endswith(_ID) for name in first[TEXT][0].split("\t"))


def _news(path: Path, source: MindData, notes: Notes) -> pl.DataFrame:
    table = read_delimited(path, "\t", notes, columns=_NEWS, quoted=False, encoding=source.encoding)
    return table.select(FILE, LINE, ITEM, *_FIELDS)


def _joined(news: pl.DataFrame, source: MindData, notes: Notes) -> pl.DataFrame:
    """Put the news of further files behind those of `news.tsv`, each once: its first text counts."""
    news = news.with_columns(pl.col(ITEM).str.strip_chars())
    if not source.texts:
        return news
    further = pl.concat([_further(path, source, notes) for path in source.texts])
    further = further.with_columns(pl.col(ITEM).str.strip_chars())
    silent = is_empty(pl.col("title"), source.null_words) & is_empty(pl.col("abstract"), source.null_words)
    empty = further.filter(silent | (pl.col(ITEM) == ""))
    message = "rows of data.texts without an id, or without title and abstract, are passed over"
    notes.add("empty-text", message, "noted", empty, pl.format("{} {}", ITEM, "title"))
    told, further = news.filter(~silent), further.filter(~silent & (pl.col(ITEM) != ""))
    text = pl.concat_str("title", "abstract", separator="\0")
    every = pl.concat([told, further])
    other = every.filter(text != text.first().over(ITEM)).unique(ITEM, keep="first", maintain_order=True)
    message = "news whose texts differ between the files or rows of data.texts keep the first one"
    notes.add("differing-text", message, "noted", other, pl.format("{} {}", ITEM, "title"))
    new = further.join(told, on=ITEM, how="anti", maintain_order="left")
    new = new.unique(ITEM, keep="first", maintain_order=True)
    message = "news without a text in news.tsv have theirs from data.texts"
    notes.add("further-text", message, "noted", new, pl.format("{} {}", ITEM, "title"))
    untold = news.filter(silent).join(new, on=ITEM, how="anti", maintain_order="left")
    return pl.concat([told, untold, new])


def _further(path: Path, source: MindData, notes: Notes) -> pl.DataFrame:
    """Read the texts of a further file: a table where its header names news, else a `news.tsv`."""
    if not _is_table(path, source):
        return _news(path, source, notes)
    table = read_table(path, notes, source.encoding)
    found = [name for name in table.columns if name == _ID or name.endswith(f"_{_ID}")]
    require_columns(path, table, found or [_ID])
    return pl.concat([_texts_beside(path, table, name, notes) for name in found])


def _texts_beside(path: Path, table: pl.DataFrame, id_column: str, notes: Notes) -> pl.DataFrame:
    """Take ids and texts out of columns of one beginning; cells hold as many lines each as there are ids."""
    start = id_column.removesuffix(_ID)
    named = {
        name: first_match(table.columns, [f"{start}{each}" for each in _ALSO.get(name, (name,))])
        for name in _FIELDS
    }
    require_columns(path, table, [f"{start}title"])
    ids = as_text(table[id_column]).fill_null("").str.strip_chars()
    table = table.select(
        FILE,
        LINE,
        ids.alias(ITEM),
        *(
            (as_text(table[column]).fill_null("") if column else pl.lit("")).alias(name)
            for name, column in named.items()
        ),
    )
    lines = table.with_columns(
        pl.when(pl.col(ITEM).str.contains("\n", literal=True))
        .then(pl.col(name).str.split("\n"))
        .otherwise(pl.concat_list(name))
        for name in (ITEM, *_FIELDS)
    )
    present = [name for name, column in named.items() if column]
    absent = [name for name in _FIELDS if name not in present]
    uneven = pl.any_horizontal(pl.col(name).list.len() != pl.col(ITEM).list.len() for name in present)
    message = "rows whose cells don't hold as many lines as there are news are left out"
    notes.add("bad-row", message, "dropped", lines.filter(uneven), pl.col(ITEM).list.join(" "))
    exploded = lines.filter(~uneven).drop(absent).explode(ITEM, *present)
    return exploded.with_columns(pl.lit("").alias(name) for name in absent).select(
        FILE, LINE, pl.col(ITEM, *_FIELDS).str.strip_chars()
    )


def _note_known_share(
    histories: pl.Series, news: pl.DataFrame, items: pl.DataFrame, further: bool, notes: Notes
) -> None:
    """Tell how much of the histories has texts, and that what has is what is read most."""
    clicked = histories.str.extract_all(r"\S+").explode().drop_nulls().to_frame(ITEM)
    clicks = clicked.select(
        pl.col(ITEM).is_in(news[ITEM].str.strip_chars().implode()).alias("before"),
        pl.col(ITEM).is_in(items[ITEM].str.strip_chars().implode()).alias("after"),
        pl.len().over(ITEM).alias("clicks"),
        ITEM,
    )
    if clicks.is_empty() or clicks["before"].all():
        return
    before, after = clicks.select(pl.col("before", "after").mean()).row(0)
    ids = clicks.unique(ITEM).group_by("after").agg(pl.col("clicks").mean())
    often = dict(ids.iter_rows())
    share = f"{before:.1%} by news.tsv alone" + (f", {after:.1%} with data.texts" if further else "")
    more = "" if further else "; data.texts takes further files of texts"
    told = " and ".join(
        f"{often[known]:.1f} clicks a news {'with' if known else 'without'} one"
        for known in (True, False)
        if known in often
    )
    message = f"clicks of the histories are of news with a text: {share} ({told}){more}"
    notes.count("known-share", message, "noted", int(clicks["after"].sum()))


def _one_row_a_user(rows: pl.DataFrame, measured: bool, notes: Notes) -> pl.DataFrame:
    """Choose each user's row, and make its sequence; clicks of a `measured` file are no part of it."""
    past = pl.col("history").str.extract_all(r"\S+")
    clicked = (
        pl.col("impressions")
        .str.extract_all(r"\S+-1(?:\s|$)")
        .list.eval(pl.element().str.strip_chars().str.strip_suffix("-1"))
    )
    remedy = "times of MIND look like 11/12/2019 2:14:46 PM"
    times = read_times(rows, TIME, notes, form=_TIME_FORMAT, remedy=remedy)
    rows = rows.with_columns(past.alias("_past"), times.alias("_moment"))
    longest_first = [not measured, True, True]  # a longer history may hold the clicks of earlier rows
    ranked = rows.sort(pl.col("_past").list.len(), "_moment", LINE, descending=longest_first, nulls_last=True)
    chosen = ranked.unique(USER, keep="first", maintain_order=True).sort(LINE)
    other = rows.height - chosen.height
    notes.count(
        "further-row", "further rows of a user are not used: one behaviour row a user", "noted", other
    )
    if measured:
        clicks = int(rows.select(clicked.list.len().sum()).item())
        message = (
            "clicks of behaviors.tsv train nothing: its impressions are measured (data.valid, data.test)"
        )
        notes.count("measured-click", message, "noted", clicks)
    sequence = pl.col("_past") if measured else pl.col("_past").list.concat(clicked)
    return chosen.select(FILE, LINE, USER, sequence.alias(ITEMS), pl.col("_moment").alias(TIME))
