r"""A profile in fixed sections: notes that edits add, update, delete or keep, and which block caused which.

A model answers with edits, one a line, each ``ADD section: text``, ``UPDATE number: text``, ``DELETE number``
or ``KEEP``. They are checked, then applied by rule. What is stored of a block are its edits, so that the
profile, and the trail of each note, are read from the blocks' edits alone, one after the other.

Examples
--------
>>> profile = read_profile(["ADD lasting: green tea\nADD lately: teapots", "DELETE 2\nUPDATE 1: tea by Uji"])
>>> profile.text
'Lasting tastes: tea by Uji.'
>>> [(note.text, note.blocks, note.ended) for note in profile.notes]
[('tea by Uji', (0, 1), None), ('teapots', (0,), 1)]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from trsr.config.summary import Check
from trsr.errors import DataError
from trsr.llm.generator import Completion
from trsr.prompts.item_text import ApproximateTokens, neutralise
from trsr.records import Summary
from trsr.summarize.checks import Asked, Verdict, bare_lines, judge


class Section(NamedTuple):
    """What a section is called, and what belongs in it."""

    title: str
    meaning: str


SECTIONS: Final[Mapping[str, Section]] = MappingProxyType(
    {
        "lasting": Section("Lasting tastes", "what comes back over a long time"),
        "lately": Section("Lately", "what is new, and may pass"),
        "dislikes": Section("Dislikes", "what they turn away from, or no longer want"),
        "brands": Section("Brands and price", "brands, makers, authors, and what they spend"),
    }
)
NOTES_A_SECTION: Final = 6
"""Notes that a section holds: one more, and the one that was written longest ago gives way."""
KEEP: Final = "KEEP"
"""The edit that changes nothing."""
_NOTE_TOKENS: Final = 40
_NAMES: Final = {name: key for key, section in SECTIONS.items() for name in (key, section.title.casefold())}


class Edit(NamedTuple):
    """One edit: its word, what it is about (a section, or a note's number), and the new text."""

    word: str
    section: str = ""
    number: int | None = None
    text: str = ""

    def __str__(self) -> str:
        where = self.section if self.number is None else str(self.number)
        return f"{self.word} {where}".strip() + (f": {self.text}" if self.text else "")


@dataclass(frozen=True, slots=True)
class Note:
    """A line of a profile; edits call it by `number`, which no other note of the profile ever has.

    `blocks` wrote its text: the one that added it, then those that updated it. `ended` is the block that
    deleted it, or filled its section; None while it stands.
    """

    number: int
    section: str
    text: str
    blocks: tuple[int, ...]
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """All notes there ever were, by number; `state` is what their writer gave beside its last edits."""

    notes: tuple[Note, ...] = ()
    state: str = ""

    @property
    def standing(self) -> tuple[Note, ...]:
        """The notes that nothing has ended."""
        return tuple(note for note in self.notes if note.ended is None)

    @property
    def text(self) -> str:
        """What the ranking model reads: the sections that hold something, a sentence each."""
        return " ".join(
            f"{section.title}: {'; '.join(note.text.rstrip('.') for note in notes)}."
            for section, notes in ((SECTIONS[key], self.of(key)) for key in SECTIONS)
            if notes
        )

    def of(self, section: str) -> tuple[Note, ...]:
        """Return the standing notes of a section, by number."""
        return tuple(note for note in self.standing if note.section == section)

    def edited(self, step: Summary, block: int) -> Profile:
        """Apply the edits of a block; those that fit no note change nothing.

        Raises DataError when a line of the step is no edit.
        """
        try:
            edits = read_edits(step.text)
        except ValueError as error:
            message = (
                f"what is kept of block {block} holds no edits: it {error}; it was written by another "
                "paradigm, or your own writer's `edit` gives something else: run `trsr summarize` again"
            )
            raise DataError(message) from error
        notes = {note.number: note for note in self.notes}
        for edit in edits:
            note = notes.get(edit.number or 0)
            if edit.word == "ADD" and not self._has(notes.values(), edit):
                added = Note(len(notes) + 1, edit.section, edit.text, (block,))
                notes[added.number] = added
            elif note is not None and note.ended is None and edit.word == "UPDATE":
                notes[note.number] = replace(note, text=edit.text, blocks=(*note.blocks, block))
            elif note is not None and note.ended is None and edit.word == "DELETE":
                notes[note.number] = replace(note, ended=block)
        for note in _too_many(notes.values()):
            notes[note.number] = replace(note, ended=block)
        return Profile(tuple(notes.values()), step.state)

    def fault(self, edits: str) -> str:
        """Say what is wrong with edits of this profile, as it follows "the answer"; "" when nothing is."""
        try:
            read = read_edits(edits)
        except ValueError as error:
            return str(error)
        numbers = [edit.number for edit in read if edit.number is not None]
        standing = {note.number for note in self.standing}
        for number in numbers:
            if number not in standing:
                return f"edited note {number}, which there isn't"
            if numbers.count(number) > 1:
                return f"edited note {number} twice"
        long = (edit.text for edit in read if ApproximateTokens().count(edit.text) > _NOTE_TOKENS)
        return f"had a note that is too long: {_shown(text)}" if (text := next(long, "")) else ""

    def changes_to(self, wanted: Mapping[str, Sequence[str]]) -> str:
        """Write the edits after which sections hold the first of these texts, and nothing else."""
        pairs = [
            (section, neutralise(text).replace("|", "/"))  # a bar stands between edits
            for section, texts in wanted.items()
            for text in texts[:NOTES_A_SECTION]
        ]
        gone = [Edit("DELETE", number=n.number) for n in self.standing if (n.section, n.text) not in pairs]
        known = {(note.section, note.text) for note in self.standing}
        new = [Edit("ADD", section, text=text) for section, text in pairs if (section, text) not in known]
        return "\n".join(map(str, [*gone, *new])) or KEEP

    @staticmethod
    def _has(notes: Iterable[Note], edit: Edit) -> bool:
        said = (edit.section, edit.text.casefold())
        return any((n.section, n.text.casefold()) == said for n in notes if n.ended is None)


def _too_many(notes: Collection[Note]) -> Iterator[Note]:
    """Give the notes that make room: of each section those that were written longest ago."""
    for section in SECTIONS:
        standing = [note for note in notes if note.section == section and note.ended is None]
        by_age = sorted(standing, key=lambda note: (note.blocks[-1], note.number))
        yield from by_age[: max(0, len(by_age) - NOTES_A_SECTION)]


def read_profile(steps: Sequence[str]) -> Profile:
    """Read a profile from the edits of its blocks, oldest first; raises as `Profile.edited` does."""
    profile = Profile()
    for block, edits in enumerate(steps):
        profile = profile.edited(Summary(edits), block)
    return profile


_WORDS: Final = re.compile(r"(ADD|UPDATE|DELETE|KEEP)\b[\s:]*(.*)", re.IGNORECASE)
_ADDED: Final = re.compile(r"\[?([A-Za-z ]+?)\]?\s*[:：]\s*(\S.*)")
_UPDATED: Final = re.compile(r"#?(\d{1,4})\s*[:：]\s*(\S.*)")
_NUMBERS: Final = re.compile(r"#?\d{1,4}(?:\s*,\s*#?\d{1,4})*\.?")
_BAR: Final = re.compile(r" \|(?: |$)")


def read_edits(text: str) -> list[Edit]:
    r"""Read edits, one a line or with a bar between; raises ValueError, saying what is wrong with the first.

    Examples
    --------
    >>> [str(edit) for edit in read_edits("add Lately:  Tea pots\nDELETE 3, 4 | KEEP")]
    ['ADD lately: Tea pots', 'DELETE 3', 'DELETE 4', 'KEEP']
    >>> read_edits("ADD hobbies: chess")
    Traceback (most recent call last):
    ...
    ValueError: named a section that there isn't: 'hobbies'
    """
    parts = (part for line in text.split("\n") for part in _BAR.split(neutralise(line)))
    return [edit for part in parts if part for edit in _read(part)]


def _read(line: str) -> list[Edit]:
    found = _WORDS.fullmatch(line)
    word, rest = (found[1].upper(), found[2].strip()) if found else ("", "")
    if word == "ADD" and (added := _ADDED.fullmatch(rest)):
        if (section := _NAMES.get(added[1].casefold())) is None:
            message = f"named a section that there isn't: {_shown(added[1])}"
            raise ValueError(message)
        return [Edit(word, section, text=added[2])]
    if word == "UPDATE" and (updated := _UPDATED.fullmatch(rest)):
        return [Edit(word, number=int(updated[1]), text=updated[2])]
    if word == KEEP and rest in ("", "."):
        return [Edit(word)]
    if word in ("DELETE", KEEP) and _NUMBERS.fullmatch(rest):
        return [Edit(word, number=int(number)) for number in re.findall(r"\d+", rest)]
    message = f"had a line that is no edit: {_shown(line)}"
    raise ValueError(message)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]} ...")


def read_edit_answer(completion: Completion) -> str:
    r"""Reduce an answer to its lines of edits, in their one form where each can be read.

    Of an answer that the limit cut, the last line is left out where there are others.

    Examples
    --------
    >>> read_edit_answer(Completion("```\n- add lately: Tea pots\n- KEEP 2\n- ADD bra", 9, 9, "length"))
    'ADD lately: Tea pots\nKEEP 2'
    """
    lines = bare_lines(completion.text)
    if completion.finish_reason == "length":
        parts = [part for line in lines for part in _BAR.split(line)]
        lines = parts[:-1] or parts
    try:
        return "\n".join(map(str, read_edits("\n".join(lines))))
    except ValueError:
        return "\n".join(lines)


def judge_edits(
    edits: str, profile: Profile, completion: Completion, asked: Asked, checks: Collection[Check]
) -> Verdict | None:
    """Say what is wrong with an answer of edits, or return None when they can be applied.

    That each is an edit of this profile is checked whatever `checks` says; what the notes say is then judged
    as a summary is (`judge`).
    """
    if completion.finish_reason == "content_filter" or not edits:
        return judge(edits, completion, asked, ())
    if fault := profile.fault(edits):
        return Verdict("edits", fault, _REMEDY, "take a larger model, or the paradigm `recurrent`")
    said = ". ".join(edit.text.rstrip(".") for edit in read_edits(edits) if edit.text)
    of_text = [check for check in checks if check not in ("no_summary", "refusal", "cut")]
    return judge(f"{said}.", completion, asked, of_text) if said else None


_REMEDY: Final = (
    f"Write edits alone, one a line: ADD, one of {', '.join(SECTIONS)}, a colon and a short note; UPDATE, "
    "the number of a note, a colon and its new text; DELETE and a number; or KEEP."
)
