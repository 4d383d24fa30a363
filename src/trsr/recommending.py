"""The best of the whole catalogue for a user: retrieved, read by the language model, fused; in a budget."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.base import open_baseline
from trsr.baselines.training_data import TrainingData
from trsr.bundle import Bundle
from trsr.errors import ConfigError, DataError
from trsr.fusion.companions import KeptFusion, said_of
from trsr.fusion.features import LANGUAGE_MODEL, Evidence
from trsr.fusion.retrieval import PROPOSED, CatalogueFusion, Proposed, Retriever, unrepeated
from trsr.ranking.scoring import EncodedUser
from trsr.scorer import RankedBy, Request, Scored, Scorer, Voice, voices_of

Repeats = Literal["learnt", "never", "always"]
"""What becomes of the history's items: ranked as far as people take things again, left out, or ranked as all
others."""

ITEMS: Final = 100
"""Items that the language model reads where no run says how many."""
_PART: Final = 25
"""With a limit of time, items are read by so many; the first part always is."""
_PARTED: Final = re.compile(r"\s*[,;|>/\n]\s*")
_BLIND: Final = "tfidf"
"""Retrieves where nothing was learnt that could: it needs the catalogue's texts alone."""
_LEFT_OUT: Final = "this ranker hasn't learnt whether people take things again: the history is left out"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be recommended, and what it may cost.

    Parameters
    ----------
    k
        Items to return.
    items
        Items that the language model reads, `k` at least; None: as many as the ranker was learnt with.
    milliseconds
        When the time is up, no further part of 25 retrieved items is read, best retrieved first; what is
        unread is left out, and the answer says so. The first part, of `k` items at least, is read however
        long it takes. None for no limit.
    allow, deny
        Ids: of nothing else, and of none of these. None allows all.
    where
        Field of the items to texts: items in whose field one of them stands, whole or between two of
        ``, ; | > /``, in any case. An item must pass every field.
    repeats
        Items of the history: ``learnt`` (recommended as far as validation users took things again),
        ``never``, ``always`` (ranked as all others).
    explain
        Whether to say what each system said of each item.

    Raises
    ------
    ConfigError
        When a value can't be.
    """

    k: int = 10
    items: int | None = None
    milliseconds: float | None = None
    allow: Collection[str] | None = None
    deny: Collection[str] = ()
    where: Mapping[str, Collection[str]] = field(default_factory=dict)
    repeats: Repeats = "learnt"
    explain: bool = False

    def __post_init__(self) -> None:
        for name in ("k", "items", "milliseconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                message = f"{name} must be above 0, got {value}"
                raise ConfigError(message)
        if self.repeats not in get_args(Repeats):
            message = f"repeats must be one of {', '.join(get_args(Repeats))}, got {self.repeats!r}"
            raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One item.

    Parameters
    ----------
    p_yes
        What the language model says of it.
    score
        What it is ranked by: p(next item) among all items of the catalogue, or p(yes) again.
    voices
        What each system said of it; empty unless asked for, and where p(yes) is the score.
    """

    item_id: str
    p_yes: float
    score: float
    voices: tuple[Voice, ...] = ()


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Items in falling order of their scores.

    Parameters
    ----------
    summary
        The summary that was used.
    read, unread
        Retrieved items that the language model read, and those that it had no time for: they are left out.
    ranked_by
        Whose scores make the order.
    seconds
        Wall time of ``retrieve``, ``read`` (the language model) and ``fuse``.
    tokens, tokens_reused
        As `Scored`.
    notes
        What else is to be said, in sentences.
    """

    items: tuple[RecommendedItem, ...]
    summary: str
    read: int
    unread: int
    ranked_by: RankedBy
    seconds: Mapping[str, float]
    tokens: int = 0
    tokens_reused: int = 0
    notes: tuple[str, ...] = ()

    @property
    def scored(self) -> Scored:
        """The same as scores of candidates, in the order of the items."""
        p_yes, scores = (
            np.array([getattr(item, name) for item in self.items]) for name in ("p_yes", "score")
        )
        return Scored(p_yes, scores, self.summary, self.tokens, self.tokens_reused)


class CatalogueRanker:
    """Recommends out of a bundle's catalogue.

    Parameters
    ----------
    bundle
        What was learnt: its companions retrieve; without any, TF-IDF of the catalogue's texts does.
    scorer
        The same bundle's, with the ranker that was chosen.
    clock
        Gives seconds.
    """

    def __init__(
        self, bundle: Bundle, scorer: Scorer, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._scorer = scorer
        self._clock = clock
        self._ids = np.array(scorer.catalogue.ids, dtype=object)
        kept = scorer.fusion or (bundle.fusion() if bundle.is_fused else None)
        self._catalogue: CatalogueFusion | None = kept.catalogue if kept else None
        self._retriever = kept.retriever if kept else _reader_of_texts(bundle)
        self._fields: dict[str, dict[str, list[int]]] = {}

    @property
    def retrievers(self) -> tuple[str, ...]:
        """Who retrieves."""
        return self._retriever.names

    @property
    def items(self) -> int:
        """How many items the language model reads unless told otherwise."""
        return self._catalogue.items if self._catalogue else ITEMS

    @cached_property
    def _learnt(self) -> CatalogueFusion | None:
        """The fused ranker of the catalogue, where it makes the order."""
        return self._catalogue if self._scorer.fusion is not None else None

    def recommend(
        self, requests: Sequence[Request], wanted: Wanted, *, remember: bool | None = None
    ) -> list[Recommendation]:
        """Recommend to users, each with a history and a summary; candidates aren't looked at.

        Without a limit of time all share the language model's passes. `remember` is that of `Scorer.score`.

        Raises
        ------
        DataError
            When an id of a history isn't in the catalogue, or filters and history leave no item.
        """
        if not requests:
            return []
        if wanted.milliseconds is not None and len(requests) > 1:
            return [each for request in requests for each in self.recommend([request], wanted)]
        started = self._clock()
        allowed, notes = self._allowed(wanted)
        if self._learnt is None and wanted.repeats == "learnt":
            wanted, notes = replace(wanted, repeats="never"), (*notes, _LEFT_OUT)
        asked = [self._scorer.history_places(request) for request in requests]
        shorts = self._shortlists(requests, asked, wanted, allowed)
        retrieved = self._clock()
        tasks = [
            replace(request, candidates=[*self._ids[short.places[0]]])
            for request, short in zip(requests, shorts, strict=True)
        ]
        encoded = self._scorer.encode(tasks)
        if wanted.milliseconds is None:
            p_yes, held = self._scorer.read(encoded, remember=remember)
        else:
            p_yes, held = self._in_time(encoded[0], wanted, started + wanted.milliseconds / 1000)
        read = self._clock()
        made = []
        for request, short, user, said, reused in zip(requests, shorts, encoded, p_yes, held, strict=True):
            items = self._ordered(request, short, said, wanted)
            unread = short.places.shape[1] - len(said)
            seen = EncodedUser(user.prefix, user.suffixes[: len(said)], None, user.cut)
            made.append(
                Recommendation(
                    items=items,
                    summary=request.summary or "",
                    read=len(said),
                    unread=unread,
                    ranked_by=self._scorer.ranked_by,
                    seconds={},
                    tokens=seen.prompts.tokens,
                    tokens_reused=len(user.prefix) * reused,
                    notes=(*notes, *_late(unread, wanted)),
                )
            )
        took = {"retrieve": retrieved - started, "read": read - retrieved, "fuse": self._clock() - read}
        return [replace(each, seconds=took) for each in made]

    def _shortlists(
        self,
        requests: Sequence[Request],
        asked: Sequence[tuple[NDArray[np.int32], pl.DataFrame]],
        wanted: Wanted,
        allowed: NDArray[np.bool_] | None,
    ) -> list[Proposed]:
        """Retrieve what the language model is to read of each user, one row each, best first."""
        items = max(wanted.items or self.items, wanted.k)
        width = items * (PROPOSED if self._catalogue else 1)
        longest = max(len(places) for places, _ in asked)
        plain = allowed is None and all(new.is_empty() for _, new in asked)
        # Lists of users are of one length where the catalogue has enough for all.
        together = plain and width + longest <= len(self._ids)
        groups = [range(len(requests))] if together else [range(at, at + 1) for at in range(len(requests))]
        shorts = []
        for group in groups:
            proposed = self._retriever.propose(
                [requests[at].user_id for at in group],
                [asked[at][0] for at in group],
                width,
                allowed=allowed,
                repeats=wanted.repeats != "never",
                new_items=asked[group[0]][1],
            )
            if self._catalogue is None:
                shorts += [proposed.row(row) for row in range(len(group))]
            else:
                short = self._catalogue.shortlist(proposed, items, penalty=wanted.repeats == "learnt")
                shorts += [short.row(row) for row in range(len(group))]
        return shorts

    def _in_time(
        self, user: EncodedUser, wanted: Wanted, end: float
    ) -> tuple[list[NDArray[np.float64]], list[bool]]:
        """Read part by part while the next is expected to end in time: as long as the slowest one took."""
        said: list[NDArray[np.float64]] = []
        first, at, slowest, reused = max(_PART, wanted.k), 0, 0.0, False
        while at < len(user.suffixes):
            before = self._clock()
            if said and before + slowest > end:
                break
            size = _PART if said else first
            part = replace(user, suffixes=user.suffixes[at : at + size])
            [p_yes], [held] = self._scorer.read([part])
            reused = held if not said else reused
            said.append(p_yes)
            at += size
            # The first part reads the user, too: it says little about those that follow, but the most it can.
            slowest = max(slowest, self._clock() - before)
        return [np.concatenate(said)], [reused]

    def _ordered(
        self, request: Request, short: Proposed, p_yes: NDArray[np.float64], wanted: Wanted
    ) -> tuple[RecommendedItem, ...]:
        """Order what was read, and keep the best."""
        seen = short.first(len(p_yes))
        ids = self._ids[seen.places[0]]
        evidence = seen.read(p_yes[None])
        scores, voices = self._scored(request, [*ids], evidence, wanted)
        order = np.argsort(-scores, kind="stable")[: wanted.k]
        return tuple(
            RecommendedItem(ids[at], float(p_yes[at]), float(scores[at]), voices(int(at))) for at in order
        )

    def _scored(
        self, request: Request, ids: list[str], evidence: Evidence, wanted: Wanted
    ) -> tuple[NDArray[np.float64], Callable[[int], tuple[Voice, ...]]]:
        """Return the scores of what was read, and what each system said of one of it."""
        kept: KeptFusion | None = self._scorer.fusion
        if kept is None:
            return evidence.scores[LANGUAGE_MODEL][0], lambda at: ()
        if self._learnt is None:  # learnt on drawn candidates alone
            asked = replace(request, candidates=ids)
            said, adds, scores = self._scorer.fused(asked, evidence.scores[LANGUAGE_MODEL])
        else:
            told = unrepeated(evidence) if wanted.repeats == "always" else evidence
            if not wanted.explain:
                return self._learnt.full.score(told)[0], lambda at: ()
            said, adds, scores = said_of(self._learnt.full, told)
        return scores[0], (lambda at: voices_of(said, adds, at)) if wanted.explain else (lambda at: ())

    def _allowed(self, wanted: Wanted) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
        """Say which items pass the filters, None for all, and what of the filters isn't in the catalogue."""
        if wanted.allow is None and not wanted.deny and not wanted.where:
            return None, ()
        size, notes = len(self._ids), []
        passing = np.ones(size, dtype=bool)
        for name, given in (("allow", wanted.allow), ("deny", wanted.deny)):
            if given is None or (name == "deny" and not given):
                continue
            known = [self._scorer.catalogue.place(item) for item in given if item in self._scorer.catalogue]
            if len(known) < len(given):
                notes.append(
                    f"{len(given) - len(known):,} of {len(given):,} ids to {name} aren't in the catalogue"
                )
            listed = np.zeros(size, dtype=bool)
            listed[known] = True
            passing &= listed if name == "allow" else ~listed
        for name, texts in wanted.where.items():
            passing &= self._having(name, texts)
        if not passing.any():
            message = "no item of the catalogue passes the filters; " + ("; ".join(notes) or "ask for more")
            raise DataError(message)
        return passing, tuple(notes)

    def _having(self, name: str, texts: Collection[str]) -> NDArray[np.bool_]:
        """Say which items have one of the texts in a field."""
        if name not in self._fields:
            self._fields[name] = _places_of(self._scorer.catalogue.column(name))
        found = np.zeros(len(self._ids), dtype=bool)
        values = [texts] if isinstance(texts, str) else texts
        for text in values:
            places = self._fields[name].get(text.strip().casefold())
            if places is None:
                some = ", ".join(map(repr, list(self._fields[name])[:5])) or "nothing"
                message = f"no item has {text!r} in its field {name}, which holds {some} and so on"
                raise DataError(message)
            found[places] = True
        return found


def _late(unread: int, wanted: Wanted) -> tuple[str, ...]:
    if not unread:
        return ()
    return (f"{unread} of the retrieved items are left out, unread within {wanted.milliseconds:g} ms",)


def _places_of(texts: Sequence[str]) -> dict[str, list[int]]:
    """Find the items of every text of a field, whole or parted.

    Examples
    --------
    >>> _places_of(["Tools > Saws", "saws", ""])
    {'tools > saws': [0], 'tools': [0], 'saws': [0, 1]}
    """
    found: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        whole = text.strip().casefold()
        for part in dict.fromkeys([whole, *_PARTED.split(whole)]):
            if part:
                found.setdefault(part, []).append(place)
    return found


def _reader_of_texts(bundle: Bundle) -> Retriever:
    """Make a retriever out of the catalogue's texts, where no companion was trained."""
    items = bundle.items()
    system = open_baseline(_BLIND, 0)
    nobody = np.empty((0, 0), np.int32)
    data = TrainingData(items, bundle.config.items.fields, (), (), (), nobody, np.empty(0, np.int64))
    system.fit(data)
    return Retriever({_BLIND: system}, data.counts, (_BLIND,))
