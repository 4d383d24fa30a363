"""Candidates ranked by the likelihood of their texts, given the user against alone: nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trsr.progress import Progress
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import EncodedUser, RankingUser
from trsr.ranking.shared_prefix.attention import Transcript
from trsr.ranking.shared_prefix.forward import packed_logits
from trsr.ranking.shared_prefix.layout import UserPrompts, divide, pack
from trsr.ranking.shared_prefix.strategy import Path, Plan
from trsr.records import Item

_ROW: Final = 1024
"""Tokens of candidates in one row; each that counts has logits of the whole vocabulary."""
_FRAMED: Final = ("a", "7")
"""Texts that share nothing: what their suffixes have in common is the template's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What the template puts before and behind a candidate's own text, as token ids.

    Examples
    --------
    >>> Frame((5, 6), (9,)).own((5, 6, 1, 2, 9)), Frame((5, 6), (9,)).own((5, 7, 9))
    ((2, 4), (1, 2))
    """

    before: tuple[int, ...]
    behind: tuple[int, ...]

    def own(self, suffix: Sequence[int]) -> tuple[int, int]:
        """Return where the candidate's text begins and ends in a suffix.

        The tokenizer may have joined the text with what stands beside it; such a token counts as the text's.
        """
        start = _shared(self.before, suffix)
        return start, max(start, len(suffix) - _shared(self.behind[::-1], suffix[::-1]))


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two begin with."""
    count = 0
    while count < min(len(one), len(other)) and one[count] == other[count]:
        count += 1
    return count


class LikelihoodRanker:
    """Ranks by the log-likelihood ratio of a candidate's text: given the user's prefix, against alone.

    ``log p(text | prefix, frame) - log p(text | frame)``, where the frame is what the template puts before
    the candidate: the pointwise mutual information of user and text. By Bayes' rule the order is that of
    ``log p(prefix | text)``: a text's own likelihood, and so its length and how common its words are,
    stands in both terms and cancels. (Holtzman et al., Surface Form Competition, EMNLP 2021.)

    Parameters
    ----------
    ranker
        A causal language model with its prompt.
    length
        ``sum`` of the ratio over the text's tokens, which is that quantity; ``mean`` divides by their
        number, so that a long text can't gain by many small hints.
    """

    def __init__(self, ranker: Ranker, length: Literal["sum", "mean"] = "sum") -> None:
        self.ranker = ranker
        self.length = length
        self._alone: dict[tuple[int, ...], float] = {}

    @cached_property
    def frame(self) -> Frame:
        """What all candidates' suffixes have in common, whatever the candidate."""
        one, other = (self.ranker.prompt.suffix(Item("", {text: text})).ids for text in _FRAMED)
        behind = _shared(one[::-1], other[::-1])
        return Frame(one[: _shared(one, other)], one[len(one) - behind :])

    def score(
        self, users: Sequence[RankingUser], batch_tokens: int = 16384, *, title: str | None = None
    ) -> list[NDArray[np.float64]]:
        """Return the ratio of every candidate, in nats, one array of shape ``(n_candidates,)`` a user.

        `title` is what the progress says. Equal texts are computed once, so that they tie; a text alone is
        computed once for all users. A candidate without text has 0.
        """
        model = self.ranker.model
        was_training = model.training
        model.eval()
        scores = []
        with torch.no_grad(), Progress(title or "", len(users), "users", shown=title is not None) as bar:
            for user in self.ranker.encode(users):
                scores.append(self._ratios(user))
                bar.advance(1)
        model.train(was_training)
        return scores

    def encode(self, users: Sequence[RankingUser]) -> list[EncodedUser]:
        """Turn ranking tasks into the model's token ids."""
        return self.ranker.encode(users)

    def _ratios(self, user: EncodedUser) -> NDArray[np.float64]:
        distinct = list(dict.fromkeys(user.suffixes))
        new = [suffix for suffix in distinct if suffix not in self._alone]
        self._alone |= zip(new, self._likelihoods(self.ranker.prompt.leading, new), strict=True)
        given = dict(zip(distinct, self._likelihoods(user.prefix, distinct), strict=True))
        return np.array([self._ratio(suffix, given[suffix]) for suffix in user.suffixes])

    def _ratio(self, suffix: tuple[int, ...], given: float) -> float:
        start, stop = self._span(suffix)
        return (given - self._alone[suffix]) / (max(1, stop - start) if self.length == "mean" else 1)

    def _span(self, suffix: Sequence[int]) -> tuple[int, int]:
        blank = self.ranker.prompt.suffix(Item("", {})).ids
        return (0, 0) if tuple(suffix) == blank else self.frame.own(suffix)

    def _likelihoods(self, prefix: Sequence[int], suffixes: Sequence[Sequence[int]]) -> list[float]:
        if not suffixes:
            return []
        spans = [self._span(suffix) for suffix in suffixes]
        return text_likelihoods(self.ranker.model, UserPrompts(prefix, suffixes), spans, self.ranker.plan)


def text_likelihoods(
    model: nn.Module, user: UserPrompts, spans: Sequence[tuple[int, int]], plan: Plan
) -> list[float]:
    """Return the log-likelihood of a part of every suffix, after all that stands before it, in nats.

    A span is where the part begins and ends in its suffix. A model that `plan` packs computes the prefix
    once, any other takes one prompt after the other. What begins a prompt has no likelihood: it counts as
    certain.
    """
    # A token is read at the place before it: the prefix's last token goes with every suffix.
    last = list(user.prefix[-1:])
    moved = UserPrompts(user.prefix[:-1], [[*last, *suffix] for suffix in user.suffixes])
    read = [(max(1, start + len(last)), stop + len(last)) for start, stop in spans]
    return (_packed if plan.path is Path.PACKED else _one_by_one)(model, moved, read)


def _packed(model: nn.Module, user: UserPrompts, spans: Sequence[tuple[int, int]]) -> list[float]:
    groups = divide(user, _ROW)
    transcript = Transcript(keeps_prefix=bool(user.prefix) and len(groups) > 1)
    found: list[float] = []
    for group in groups:
        row = pack([group], is_held=bool(transcript.prefix))
        [segment] = row.layout.segments
        places = segment.middle + np.cumsum([0, *segment.fold.lengths])
        own = spans[len(found) : len(found) + len(group.suffixes)]
        tokens = [
            range(place + start, place + stop) for place, (start, stop) in zip(places, own, strict=False)
        ]
        wanted = torch.tensor([token for run in tokens for token in run], dtype=torch.long)
        values: Sequence[Tensor] = torch.split(torch.zeros(0), [0] * len(own))
        if len(wanted):
            logits = packed_logits(model, row, None, trims=False, transcript=transcript, places=wanted - 1)
            values = torch.split(_picked(logits, row.ids[0, wanted]), [len(run) for run in tokens])
        found += [float(part.sum()) for part in values]
        transcript.keeps_prefix = False
    return found


def _one_by_one(model: nn.Module, user: UserPrompts, spans: Sequence[tuple[int, int]]) -> list[float]:
    device = next(model.parameters()).device
    found = []
    for suffix, (start, stop) in zip(user.suffixes, spans, strict=True):
        row = torch.tensor([[*user.prefix, *suffix[:stop]]], device=device)
        count = max(0, stop - start)
        logits = model(input_ids=row, use_cache=False, logits_to_keep=count + 1).logits[0, :-1]
        found.append(float(_picked(logits[len(logits) - count :], row[0, row.shape[1] - count :]).sum()))
    return found


def _picked(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-probability of each token, ``(n_tokens,)``, in float64, from logits before it."""
    tokens = tokens.to(logits.device)
    return (logits.float().gather(1, tokens[:, None])[:, 0] - logits.float().logsumexp(1)).double()
