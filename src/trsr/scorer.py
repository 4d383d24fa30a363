"""Requests in, scores out: what the language model and its companions say of candidates, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.bundle import Bundle, require_fused
from trsr.data.dataset import Catalogue
from trsr.errors import ConfigError, DataError
from trsr.fusion.companions import KeptFusion
from trsr.ranking.scoring import EncodedUser, RankingUser
from trsr.ranking.shared_prefix.forward import PrefixMemory
from trsr.records import ITEM, Item

ItemLike = str | Mapping[str, str]
"""An item of the catalogue by its id, or any other item as its text fields (with or without ``item_id``)."""

RankedBy = Literal["fused", "language_model"]
"""Whose scores make the order."""

_MEMORY_BYTES: Final = 256 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One user's history and candidates; the summary is None where it is yet to be written."""

    user_id: str
    history: Sequence[ItemLike]
    candidates: Sequence[ItemLike]
    summary: str | None


@dataclass(frozen=True, slots=True)
class Scored:
    """What was said of a request's candidates, in their own order.

    Parameters
    ----------
    p_yes, scores
        What the language model says, and what makes the order; each ``(n_candidates,)``.
    summary
        The summary that was used.
    tokens, tokens_reused
        Tokens of the prompts, what they share counted once; and how many of them were held from before.
    """

    p_yes: NDArray[np.float64]
    scores: NDArray[np.float64]
    summary: str
    tokens: int
    tokens_reused: int


@dataclass(frozen=True, slots=True)
class Voice:
    """What one system said of an item, and what that adds to the sum that makes the fused score.

    `said` is None where it isn't a system that adds, but a fact: that training never saw the item, or that
    the user has taken it before.
    """

    system: str
    said: float | None
    adds: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was said of one item, and what p(yes) would be if the model knew less.

    Parameters
    ----------
    without_summary
        p(yes) when the model is told no summary; None where it is told none anyway.
    without_item
        Of each recent item that the model is shown, newest last: its id and p(yes) without it.
    voices
        Of each system that the fused ranker joins; empty where p(yes) is the score.
    """

    p_yes: float
    score: float
    without_summary: float | None
    without_item: tuple[tuple[str, float], ...]
    voices: tuple[Voice, ...]


class Scorer:
    """Scores the candidates of any number of requests together.

    Parameters
    ----------
    bundle
        The model, the catalogue's texts and all that was learnt.
    ranker
        ``fused`` or ``language_model``; None: the fused ranker when there is one.
    memory_bytes
        Keys and values kept of the users asked for last, so that a second request costs the candidates alone.

    Raises
    ------
    ConfigError
        When there is no fused ranker, or no such ranker.
    """

    def __init__(
        self, bundle: Bundle, ranker: RankedBy | None = None, memory_bytes: int = _MEMORY_BYTES
    ) -> None:
        require_ranker(ranker)
        if ranker == "fused":
            require_fused(bundle)
        self.catalogue: Catalogue = bundle.catalogue()
        """All items, with all texts that are known of them."""
        self._shown = self.catalogue.showing(bundle.config.ranking_fields)
        self._read = self.catalogue.showing(bundle.config.items.fields)
        self.ranker = bundle.ranker()
        fused = bundle.is_fused and ranker != "language_model"
        self.fusion: KeptFusion | None = bundle.fusion() if fused else None
        """What was learnt of the fused ranker, where it makes the order."""
        self.memory = PrefixMemory(memory_bytes)

    @property
    def ranked_by(self) -> RankedBy:
        """Whose scores make the order."""
        return "language_model" if self.fusion is None else "fused"

    def score(self, requests: Sequence[Request], *, remember: bool | None = None) -> list[Scored]:
        """Score all candidates; every request has its summary.

        With `remember` what the model has read of a user is held for the next time. None: of one request
        alone, for many are dearer to hold than to compute together.

        Raises
        ------
        DataError
            When an id isn't in the catalogue, or a text field is none of the data set's.
        """
        encoded = self.encode(requests)
        p_yes, held = self.read(encoded, remember=remember)
        scores = p_yes if self.fusion is None else self._fuse(self.fusion, requests, p_yes)
        return [
            Scored(said, own, request.summary or "", user.prompts.tokens, len(user.prefix) * reused)
            for request, user, said, own, reused in zip(requests, encoded, p_yes, scores, held, strict=True)
        ]

    def encode(self, requests: Sequence[Request]) -> list[EncodedUser]:
        """Turn requests into token ids; raises as `score`."""
        return self.ranker.encode([self._task(request) for request in requests])

    def read(
        self, encoded: Sequence[EncodedUser], *, remember: bool | None = None
    ) -> tuple[list[NDArray[np.float64]], list[bool]]:
        """Ask the language model alone; say whose prefixes were held. `remember` is that of `score`."""
        remember = len(encoded) == 1 if remember is None else remember
        held = [remember and user.prefix in self.memory for user in encoded]
        return self.ranker.score_encoded(encoded, memory=self.memory if remember else None), held

    def history_places(self, request: Request) -> tuple[NDArray[np.int32], pl.DataFrame]:
        """Give a history as places in the catalogue and, behind it, in the texts that the catalogue lacks."""
        new: list[Item] = []
        return self._places(request.history, new), self._texts(new)

    def fused(
        self, request: Request, p_yes: NDArray[np.float64], *, catalogue: bool = False
    ) -> tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Say what systems say of a request's candidates, what that adds, and the scores, each a row."""
        if self.fusion is None:
            return {}, {}, p_yes
        histories, offered, texts = self._asked([request])
        return self.fusion.explain(histories, offered, p_yes, texts, catalogue=catalogue)

    def explain(self, request: Request, *, catalogue: bool = False) -> Explanation:
        """Say who said what of a request's only candidate; raises as `score`.

        With `catalogue` the score is that of the fused ranker of the whole catalogue, where there is one.
        """
        told = request.summary or ""
        size = self.ranker.prompt.prompting.recent_items
        first = max(0, len(request.history) - size)
        recent = range(first, len(request.history))
        others = [replace(request, summary="")] if told else []
        others += [
            replace(request, history=[*request.history[first:at], *request.history[at + 1 :]])
            for at in recent
        ]
        p_yes, *less = self.ranker.score([self._task(each) for each in (request, *others)])
        said = [float(each[0]) for each in less]
        of_items = said[len(said) - len(recent) :]
        told_by, adds, scores = self.fused(request, p_yes[None], catalogue=catalogue)
        return Explanation(
            p_yes=float(p_yes[0]),
            score=float(scores[0, 0]),
            without_summary=said[0] if told else None,
            without_item=tuple(
                (item.id, p) for item, p in zip(self.names(request.history[first:]), of_items, strict=True)
            ),
            voices=voices_of(told_by, adds, 0),
        )

    def warm(self) -> None:
        """Read the catalogue's texts into tokens, once, rather than in the first requests for each item."""
        self.ranker.prompt.warm(map(self._shown.item, self._shown.ids))

    def forget(self) -> None:
        """Forget what is held of users."""
        self.memory.clear()
        self.ranker.prompt.forget()

    def names(self, items: Sequence[ItemLike]) -> list[Item]:
        """Find items by id, and put those given as text into the form in which the model sees items."""
        return resolve(items, self._shown)

    def _task(self, request: Request) -> RankingUser:
        return RankingUser(
            request.user_id,
            request.summary or "",
            tuple(resolve(request.history, self._shown)),
            tuple(resolve(request.candidates, self._shown)),
        )

    def _fuse(
        self, fusion: KeptFusion, requests: Sequence[Request], p_yes: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """Join p(yes) with what the companions say; requests of one number of candidates go together."""
        scores: dict[int, NDArray[np.float64]] = {}
        by_width = sorted(range(len(requests)), key=lambda at: len(requests[at].candidates))
        for _, group in groupby(by_width, key=lambda at: len(requests[at].candidates)):
            chosen = list(group)
            histories, offered, texts = self._asked([requests[at] for at in chosen])
            fused = fusion.score(histories, offered, np.stack([p_yes[at] for at in chosen]), texts)
            scores.update(zip(chosen, fused, strict=True))
        return [scores[at] for at in range(len(requests))]

    def _asked(
        self, requests: Sequence[Request]
    ) -> tuple[list[NDArray[np.int32]], NDArray[np.int32], pl.DataFrame]:
        """Give histories and candidates of one number as places, and the texts that the catalogue lacks."""
        new: list[Item] = []
        histories = [self._places(request.history, new) for request in requests]
        offered = np.stack([self._places(request.candidates, new) for request in requests])
        return histories, offered, self._texts(new)

    def _texts(self, new: Sequence[Item]) -> pl.DataFrame:
        return pl.DataFrame(
            {name: [item.fields.get(name, "") for item in new] for name in self._read.fields},
            schema=dict.fromkeys(self._read.fields, pl.String),
        )

    def _places(self, items: Sequence[ItemLike], new: list[Item]) -> NDArray[np.int32]:
        """Return items' places in the catalogue; others are put behind those in `new`."""
        places = []
        for item in items:
            if isinstance(item, str):
                places.append(self.catalogue.place(item))
            else:
                places.append(len(self.catalogue) + len(new))
                new.append(self._read.make_item("", item))
        return np.array(places, dtype=np.int32)


def voices_of(
    said: Mapping[str, NDArray[np.float64]], adds: Mapping[str, NDArray[np.float64]], column: int
) -> tuple[Voice, ...]:
    """Put together what was said of one candidate of the only user."""
    sums = dict.fromkeys(said, 0.0)
    for name, value in adds.items():
        system = name.partition(", ")[0]
        sums[system] = sums.get(system, 0.0) + float(value[0, column])
    return tuple(
        Voice(name, float(said[name][0, column]) if name in said else None, sums[name]) for name in sums
    )


def resolve(items: Sequence[ItemLike], catalogue: Catalogue) -> list[Item]:
    """Find items by id, and put those given as text into the catalogue's form, as if they had been in it."""
    return [
        catalogue.item(item)
        if isinstance(item, str)
        else catalogue.make_item(item.get(ITEM, f"#{place}"), item)
        for place, item in enumerate(items, start=1)
    ]


def require_ranker(ranker: str | None) -> None:
    """Raise ConfigError where a name is none of a ranker."""
    if ranker not in (None, *get_args(RankedBy)):
        message = f"the ranker must be one of {', '.join(get_args(RankedBy))}, got {ranker!r}"
        raise ConfigError(message)


def require_candidates(candidates: Sequence[ItemLike]) -> None:
    """Raise DataError where there is nothing to rank."""
    if not candidates:
        message = "candidates must hold at least one item, got none"
        raise DataError(message)
