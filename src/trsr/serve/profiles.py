"""A user's profile as people see it: what it rests on, how it grew, how it is rewritten, and how it goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any, Final

from trsr.config.summary import KeyphraseWriter, TableWriter
from trsr.data.dataset import Catalogue
from trsr.errors import DataError, WriterError
from trsr.prompts.words import words
from trsr.recommender import Recommender
from trsr.records import Summary, Usage, UserSummary
from trsr.serve.schemas import BlockOut, NoteOut
from trsr.stages.forget import forget_user
from trsr.summarize.forecast import why_no_model
from trsr.summarize.sections import read_profile
from trsr.summarize.store import Store
from trsr.summarize.store.admin import forget as forget_answers
from trsr.summarize.summarizer import Growth, cut_history
from trsr.users import UserRow, Users

SECTIONS: Final = "sections"
"""The paradigm whose profiles are notes."""
_SENTENCE: Final = re.compile(r"(?<=[.!?;。！？])\s*")
_PIECE: Final = re.compile(r"\w+|\W+")
_SHORTEST_WORD: Final = 4
_LINE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class BlockOfProfile:
    """Some consecutive items of a history, and what was written when they were read.

    `summary` is None while the writer has not read them.
    """

    index: int
    items: tuple[int, ...]
    summary: str | None


def blocks_of(recommender: Recommender, row: UserRow) -> list[BlockOfProfile]:
    """Cut a user's history as the writer did; items are places in the history, from 0."""
    catalogue, config = recommender.read, recommender.config
    if config.summary.paradigm == "none":
        return []
    blocks = cut_history(list(catalogue.items(row.history)), config)
    found, start = [], 0
    for block in blocks:
        stop = start + len(block.items)
        is_read = block.index < len(row.blocks)
        found.append(
            BlockOfProfile(
                block.index, tuple(range(start, stop)), row.blocks[block.index] if is_read else None
            )
        )
        start = stop
    return found


def notes_of(recommender: Recommender, row: UserRow) -> list[NoteOut]:
    """Give all notes there ever were of a user, with the blocks that caused them; none of other paradigms."""
    if recommender.config.summary.paradigm != SECTIONS:
        return []
    items = {block.index: block.items for block in blocks_of(recommender, row)}
    return [
        NoteOut(
            number=note.number,
            section=note.section,
            text=note.text,
            blocks=[*note.blocks],
            ended=note.ended,
            items=[place for block in note.blocks for place in items.get(block, ())],
        )
        for note in read_profile(row.blocks).notes
    ]


def sentences_of(text: str, history: Sequence[str], catalogue: Catalogue) -> list[tuple[str, list[int]]]:
    """Split a summary into sentences, each with the places of the items whose texts share a word with it.

    A writer doesn't say what it had in mind: shared words, of four letters or more or of a script without
    spaces, are what can be checked.
    """
    texts = [_telling(" ".join(item.fields.values())) for item in catalogue.items(history)]
    found = []
    for sentence in filter(None, map(str.strip, _SENTENCE.split(text))):
        said = _telling(sentence)
        found.append((sentence, [place for place, known in enumerate(texts) if said & known]))
    return found


def _telling(text: str) -> set[str]:
    return {word for word in words(text) if len(word) >= _SHORTEST_WORD or not word.isascii()}


def grown(before: str, after: str) -> tuple[list[tuple[str, bool]], list[str]]:
    """Say how a summary came of an earlier one: its pieces and whether they are new, and words that went.

    Examples
    --------
    >>> grown("Likes teas and mugs.", "Likes mugs. Lately benches.")
    ([('Likes mugs. ', False), ('Lately', True), (' ', False), ('benches', True), ('.', False)], ['teas'])
    """
    known, told = _telling(before), _telling(after)
    pieces = ((piece, bool(_telling(piece) - known)) for piece in _PIECE.findall(after))
    merged = [
        ("".join(piece for piece, _ in group), new) for new, group in groupby(pieces, lambda each: each[1])
    ]
    gone = [piece for piece in _PIECE.findall(before) if _telling(piece) - told]
    return merged, [*dict.fromkeys(gone)]


def growth_of(blocks: Sequence[BlockOut], paradigm: str) -> list[dict[str, Any]]:
    """Say of each block what was written, and what that added to the summary before and left out of it.

    A block that is read alone, and not behind what was written before, adds nothing to that.
    """
    found, before, edits = [], "", []
    for block in blocks:
        told, edited = block.summary or "", ""
        if paradigm == SECTIONS and block.summary is not None:
            edits.append(block.summary)
            told, edited = read_profile(edits).text, block.summary
        follows = bool(before) and paradigm in ("recurrent", SECTIONS)
        pieces, gone = grown(before, told) if follows else ([(told, False)], [])
        found.append({"block": block, "pieces": pieces, "gone": gone if told else [], "edits": edited})
        before = told or before
    return found


def line(catalogue: Catalogue, item_id: str) -> str:
    """Show an item in one line."""
    return catalogue.line(item_id, _LINE_CHARACTERS) if item_id in catalogue else ""


class Titles:
    """Finds items by words of their titles."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._ids = catalogue.ids
        self._lines = [catalogue.line(item_id, _LINE_CHARACTERS).casefold() for item_id in catalogue.ids]

    def find(self, text: str, limit: int) -> list[str]:
        """Return the first items whose title has all words of a text, or whose id it is."""
        asked = text.casefold().split()
        found = (
            item_id
            for item_id, line in zip(self._ids, self._lines, strict=True)
            if item_id == text or all(word in line for word in asked)
        )
        return [*islice(found, limit)] if asked else []


def rewrite(
    recommender: Recommender, users: Users, user_id: str, block: int, text: str | None, *, fresh: bool
) -> UserRow:
    """Write a user's summary again from a block on, and take a person's text for the whole away.

    Parameters
    ----------
    block
        The first block that is read again, from 0; what was written of those before is kept.
    text
        What a person says of this block: later ones go on from it. None: the writer reads it again.
    fresh
        Ask a model anew, although it has answered the same before: its stored answers about the user go.

    Raises
    ------
    DataError
        When there is no such user or block, or the writer can't go on from a text.
    WriterError
        When the summary can't be written.
    """
    config = recommender.config
    row = users.get(user_id)
    history = list(recommender.read.items(row.history))
    blocks = cut_history(history, config) if config.summary.paradigm != "none" else ()
    _require_block(recommender, row, block, len(blocks), text)
    if fresh:
        _forget_answers(recommender, user_id)
    kept = [Summary(told) for told in row.blocks[:block]]
    if text is not None:
        kept.append(Summary(text))
    if isinstance(config.summary.writer, KeyphraseWriter):  # needs the state of every block
        kept = []
    before = UserSummary(user_id, Summary(""), tuple(kept), Usage())
    written = recommender.summarizer.rewrite(Growth(before, blocks[: len(kept)], blocks))
    if written.failed:
        message = f"the summary of {user_id!r} can't be written: {written.failed}; try again"
        raise WriterError(message, retryable=True)

    def rewritten(now: dict[str, UserRow]) -> list[UserRow]:
        if user_id not in now or now[user_id].blocks != row.blocks:
            message = f"the profile of {user_id!r} has changed meanwhile; look at it and try again"
            raise WriterError(message, retryable=True)
        current = now[user_id]
        return [
            replace(
                current,
                summary=written.final.text,
                blocks=[step.text for step in written.steps],
                state=written.final.state,
                failed="",
                edited=None,
                appended=True,
                read=None if len(current.history) == len(row.history) else len(row.history),
            )
        ]

    [changed] = users.change([user_id], rewritten)
    return changed


def _require_block(recommender: Recommender, row: UserRow, block: int, count: int, text: str | None) -> None:
    writer = recommender.config.summary.writer
    if not 0 <= block < count or block > len(row.blocks):
        known = min(count - 1, len(row.blocks))
        message = f"block must be from 0 to {known} for user {row.user_id!r}, got {block}"
        raise DataError(message)
    if text is not None and isinstance(writer, KeyphraseWriter | TableWriter):
        message = f"the writer {writer.kind!r} reads items, not texts; edit the whole summary instead"
        raise DataError(message)
    if text is not None and recommender.config.summary.paradigm == SECTIONS:
        fault = read_profile(row.blocks[:block]).fault(text)
        if fault or not text.strip():
            message = (
                f"the text of block {block} {fault or 'is empty'}; write edits, one a line, such as "
                "'ADD lately: teapots', 'UPDATE 3: green tea', 'DELETE 2' or 'KEEP'"
            )
            raise DataError(message)


def forget(recommender: Recommender, users: Users, user_id: str) -> list[str]:
    """Delete a user: the row, the model answers about the user, and all that a run folder shows of the user.

    Returned is what went, and what still knows the user, a line each; nothing when nobody knows the user.
    """
    # The run folder first: what was written about the user, by which files are searched, stands in the row.
    removed = [] if recommender.folder is None else forget_user(recommender.folder, user_id)
    if users.forget(user_id):
        removed.insert(0, f"{users.path}: 1 row")
    return [*removed, *_forget_answers(recommender, user_id)]


def _forget_answers(recommender: Recommender, user_id: str) -> list[str]:
    config = recommender.config
    if why_no_model(config) is not None:
        return []
    with Store(config.store_url) as store:
        usage: Any = forget_answers(store, user_id)
        return [f"{store.database.shown}: {usage.calls:,} answers"] if usage.calls else []
