"""A shop in which every text says whose it is, and scorers that answer with numbers of user and item.

Each item's text begins with its number. The last item before a user's target, and the target, are
taken by that user alone, and each has a word that no other text has. So whoever reads a text knows
which user it is about, and whether it tells what is to be guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from trsr.baselines.neural import system as sequential
from trsr.baselines.neural.system import Sequential
from trsr.baselines.simple import ItemNeighbours, Popularity, Random
from trsr.compact import start as fresh
from trsr.prompts.ranking_prompt import Prefix, RankingPrompt, Suffix
from trsr.ranking import scoring
from trsr.records import Item

USERS, SHORT, SHARED = 44, 10, 40
"""Users with a target, users too short for one before and as many after the first target, shared items."""
TRAIN, VALID, TEST = range(20), range(20, 34), range(34, USERS)
"""Users of each split, which goes by time; enough validation users for a fused ranker."""
HISTORY = 8
_DAY = 1_000
_WORDS = [
    "saw",
    "tea",
    "lamp",
    "rope",
    "chair",
    "blue",
    "steel",
    "oak",
    "soft",
    "mug",
    "iron",
    "garden",
    "paper",
    "wool",
    "clay",
]


def numbered(item: int) -> str:
    """Name an item: ``n007`` is the seventh item of the catalogue, as id and as first word of its text."""
    return f"n{item:03d}"


def nonsense(user: int) -> str:
    """Give the word that only the target of this user has."""
    return "zx" + "".join("aeiouklmpr"[int(digit)] for digit in f"{user:03d}")


def own_item(user: int) -> int:
    """Give the last item before the target; also of short histories, whose users follow the others."""
    return SHARED + user


def target_item(user: int) -> int:
    """Give the item that is to be guessed."""
    return SHARED + USERS + 2 * SHORT + user


def user_id(user: int) -> str:
    """Name a user; ids say nothing about time."""
    return f"u{user * 7 % USERS:02d}" if user < USERS else f"short{user:03d}"


def write_shop(folder: Path) -> dict[str, Any]:
    """Write ``items.csv`` and ``events.csv``; return the settings of the data.

    Users take their targets one a day. Half of the short histories end before all of them; of the
    other half each begins before the first target and ends after the last.
    """
    rng = np.random.default_rng(0)
    words = [" ".join(rng.choice(_WORDS, 2, replace=False)) for _ in range(target_item(USERS))]
    for user in range(USERS + 2 * SHORT):
        words[own_item(user)] += f" own{user:03d}"
    for user in range(USERS):
        words[target_item(user)] = nonsense(user)
    titles = [f"{numbered(item)} {text}" for item, text in enumerate(words)]
    ids = [numbered(item) for item in range(len(titles))]
    pl.DataFrame({"item_id": ids, "title": titles}).write_csv(folder / "items.csv")
    events = []
    for user in range(USERS + 2 * SHORT):
        short = user >= USERS
        taken = rng.choice(SHARED, 2 if short else HISTORY - 1, replace=False).tolist()
        items = [*taken, own_item(user)] + ([] if short else [target_item(user)])
        day = 0 if user >= USERS and user % 2 else user + 1
        times = [day * _DAY + place for place in range(len(items))]
        if short and not user % 2:
            times[0] = 1
        events += [(user_id(user), numbered(item), at) for item, at in zip(items, times, strict=True)]
    rng.shuffle(events)
    columns = ["user_id", "item_id", "time"]
    pl.DataFrame(events, schema=columns, orient="row").write_csv(folder / "events.csv")
    return {
        "data": {
            "format": "tables",
            "items": str(folder / "items.csv"),
            "events": str(folder / "events.csv"),
        },
        "history": {"min": HISTORY + 1, "max": HISTORY + 1},
        "split": {"by": "time", "valid": len(VALID) / USERS, "test": len(TEST) / USERS},
        "prompt.item_tokens": 24,
        "prompt.max_tokens": 512,
    }


def number_of(item_id: str) -> int:
    """Read an item's number from its id."""
    return int(item_id[1:])


def p_of(user: int, item: int) -> float:
    """Give the p(yes) that the numbering scorer says: another one for every item, in another order a user."""
    return ((user * 37 + item * 101) % 997 + 1) / 1000


@dataclass
class Heard:
    """What was read by anything that learns, writes or ranks.

    Attributes
    ----------
    prefixes, suffixes
        Texts of ranking prompts.
    learnt
        Sequences of item numbers that a model was trained on, by what was trained.
    asked
        Histories, as item numbers, for which a baseline scored, with their users.
    listens
        False while what is read is the catalogue alone.
    """

    prefixes: list[str] = field(default_factory=list)
    suffixes: list[str] = field(default_factory=list)
    learnt: dict[str, list[list[int]]] = field(default_factory=dict)
    asked: list[tuple[str, list[int]]] = field(default_factory=list)
    listens: bool = True
    _texts: dict[tuple[int, ...], str] = field(default_factory=dict)

    def logits(self, prefix: Sequence[int], suffixes: Sequence[Sequence[int]]) -> Tensor:
        """Answer with the numbers that the prompts show, as logits of yes and no."""
        user, *_ = re.findall(r"own(\d{3})", self._texts[tuple(prefix)])
        [items] = zip(*(re.findall(r"\bn(\d{3})", self._texts[tuple(ids)]) for ids in suffixes), strict=True)
        p = torch.tensor([p_of(int(user), int(item)) for item in items], dtype=torch.float64)
        return torch.stack([p.log(), (1 - p).log()], dim=1).float()

    def read(self, part: Prefix | Suffix, texts: list[str]) -> Prefix | Suffix:
        """Keep a part of a prompt."""
        if self.listens:
            texts.append(part.text)
        self._texts[part.ids] = part.text
        return part


@contextmanager
def numbering() -> Iterator[Heard]:
    """Let every ranking model answer with numbers while the block runs, and listen to all that is read.

    Everything but the pass through the network is the real thing: prompts, batches, their order.
    """
    heard = Heard()
    with pytest.MonkeyPatch.context() as patch:
        _listen_to_prompts(patch, heard)
        _listen_to_training(patch, heard)
        for name in ("candidate_logits", "remembered_logits"):
            patch.setattr(
                scoring,
                name,
                lambda model, users, *_, **__: torch.cat(
                    [heard.logits(user.prefix, user.suffixes) for user in users]
                ),
            )
        yield heard


def _listen_to_prompts(patch: pytest.MonkeyPatch, heard: Heard) -> None:
    prefix, suffix = RankingPrompt.prefix, RankingPrompt.suffix

    def told(self: RankingPrompt, summary: str, recent: Sequence[Item]) -> Any:
        return heard.read(prefix(self, summary, recent), heard.prefixes)

    def asked(self: RankingPrompt, item: Item, history: Sequence[Item] = ()) -> Any:
        return heard.read(suffix(self, item, history), heard.suffixes)

    def take_apart(*args: Any) -> Any:
        """Let the catalogue's lines be read off, which are written as if they were recent items."""
        heard.listens = False
        taken = item_tokens(*args)
        heard.listens = True
        return taken

    item_tokens = fresh.item_tokens
    patch.setattr(fresh, "item_tokens", take_apart)
    patch.setattr(RankingPrompt, "prefix", told)
    patch.setattr(RankingPrompt, "suffix", asked)


def _listen_to_training(patch: pytest.MonkeyPatch, heard: Heard) -> None:
    def listening(name: str, learn: Any, at: int) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            heard.learnt.setdefault(name, []).extend([int(item) for item in row] for row in args[at])
            return learn(*args, **kwargs)

        return wrapped

    patch.setattr(fresh, "token_vectors", listening("embeddings", fresh.token_vectors, 2))
    patch.setattr(fresh, "pretrain", listening("next item", fresh.pretrain, 2))
    patch.setattr(fresh, "draw_questions", listening("questions", fresh.draw_questions, 0))
    patch.setattr(sequential, "train", listening("sasrec", sequential.train, 1))
    for kind in (ItemNeighbours, Popularity, Random, Sequential):
        _listen_to_baseline(patch, heard, kind)


def _listen_to_baseline(patch: pytest.MonkeyPatch, heard: Heard, kind: type[Any]) -> None:
    fit, score = kind.fit, kind.score

    def fitted(self: Any, data: Any) -> None:
        heard.learnt.setdefault(kind.__name__, []).extend(row.tolist() for row in data.sequences)
        heard.asked.extend(
            (user, history.tolist())
            for user, history in zip(data.valid_users, data.valid_histories, strict=True)
        )
        fit(self, data)

    def scored(self: Any, users: Any, histories: Any, candidates: Any = None) -> Any:
        heard.asked.extend((user, row.tolist()) for user, row in zip(users, histories, strict=True))
        return score(self, users, histories, candidates)

    patch.setattr(kind, "fit", fitted)
    patch.setattr(kind, "score", scored)
