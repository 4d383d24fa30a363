"""A ranker whose model is behind a server: p(yes) is asked for there, stored here, and paid for once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trsr.artifacts import hash_value
from trsr.config import Config
from trsr.config.ranking import EndpointModel, HuggingFaceModel
from trsr.config.summary import Sampling
from trsr.errors import ModelError, WriterError
from trsr.hf.loading import explain, read_tokenizer
from trsr.hf.tokenization import PlainEncoder, TokenizerTokens, leading_ids
from trsr.llm.generator import Unanswered
from trsr.llm.scoring import Candidates, ScoreGenerator
from trsr.progress import Progress
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates
from trsr.ranking.scoring import EncodedUser, RankingUser, encode_users, find_answers
from trsr.records import Usage
from trsr.summarize.cost import Budget, cost
from trsr.summarize.purchases import Purchases, finish, purchases
from trsr.summarize.store import Question, Store

_FORMAT: Final = 1
_NOTHING: Final = Sampling(max_new_tokens=1)
"""Nothing is drawn."""


class ServedRanker:
    """Asks a server for p(yes) of candidates, by the settings of `model`, an `EndpointModel`.

    Prompts are those of a `trsr.ranking.ranker.Ranker` with this tokenizer. Every request's answer is stored
    by its content before it counts; one that is there already is neither sent nor paid for.

    Raises
    ------
    ModelError
        When the tokenizer can't be loaded, or an answer is no single token of it.
    ConfigError
        When there is a cap on money and no price.
    """

    def __init__(self, config: Config) -> None:
        assert isinstance(config.model, EndpointModel)
        self._config = config
        self._model = config.model
        tokenizer = _tokenizer(config.model.tokenizer)
        encode = PlainEncoder(tokenizer)
        self.prompt = RankingPrompt(
            Templates(config.prompt.domain, config.prompt.templates),
            encode,
            TokenizerTokens(encode),
            config.prompt,
            item_tokens=config.ranking_item_tokens,
            leading=leading_ids(tokenizer),
        )
        slot, words = self.prompt.slot(), config.prompt.answers
        self.answers = find_answers(encode, slot, words, tokenizer.unk_token_id)
        self.budget = Budget(config.model.limits, config.model.price, "model")
        texts = [self.prompt.prefix("", ()).text, *(f"{slot} {word}" for word in words)]
        probes = dict(zip(texts, encode(texts), strict=True))
        self.generator = ScoreGenerator(
            config.model, (self.answers.yes, self.answers.no), probes, self.budget
        )
        self._reused = 0

    @property
    def card(self) -> dict[str, Any]:
        """What the ranker is, as JSON values; no address and no key."""
        return {
            "format": _FORMAT,
            "kind": "endpoint",
            "identity": self.generator.identity,
            "protocol": self._model.protocol,
            "answers": asdict(self.answers),
            "templates": self.prompt.versions,
        }

    @property
    def told(self) -> dict[str, Any]:
        """What was paid for scores so far: calls, tokens, and money where the price is known."""
        spent, price = self.budget.spent, self._model.price
        return {
            "calls": spent.calls,
            "calls_reused": self._reused,
            "prompt_tokens": spent.prompt_tokens,
            "money": cost(spent, price),
            "currency": price.currency,
        }

    def score(
        self, users: Sequence[RankingUser], batch_tokens: int = 0, *, title: str | None = None
    ) -> list[NDArray[np.float64]]:
        """Return p(yes), one array of shape ``(n_candidates,)`` a user; `title` is what the progress says.

        Raises
        ------
        WriterError
            When the server gives no answer; what it answered before is stored.
        BudgetError
            At a cap of `model.limits`, when all that was under way is stored.
        StoreError
            When the store can't be read or written.
        """
        worded = [list(self.questions(user)) for user in users]
        asked = [(user, question) for user, own in zip(users, worded, strict=True) for question in own]
        with (
            Store(self._config.store_url) as store,
            Progress(title or "", len(asked), "requests", shown=title is not None) as bar,
        ):
            answers = iter(finish(self._ask_all(asked, store, bar)))
        scores = []
        for user, own in zip(users, worded, strict=True):
            found: dict[str, float] = {}
            for question in own:
                _, *texts = json.loads(question.chat.user)
                found |= zip(texts, next(answers), strict=True)
            scores.append(np.array([found[self.prompt.suffix(item).text] for item in user.candidates]))
        return scores

    def encode(self, users: Sequence[RankingUser]) -> list[EncodedUser]:
        """Turn ranking tasks into the tokenizer's ids."""
        return encode_users(users, self.prompt)

    def questions(self, user: RankingUser) -> Iterator[Question]:
        """Word a user's candidates as requests: equal texts once, in an order that theirs doesn't change."""
        prefix = self.prompt.prefix(user.summary, user.history)
        found = {suffix.text: suffix for suffix in map(self.prompt.suffix, user.candidates)}
        suffixes = [found[text] for text in sorted(found)]
        size = self._model.candidates if self.generator.protocol.sends_ids else 1
        for start in range(0, len(suffixes), size):
            part = suffixes[start : start + size]
            texts = json.dumps([prefix.text, *(suffix.text for suffix in part)], ensure_ascii=False)
            ids = (prefix.ids, tuple(suffix.ids for suffix in part))
            labels = self.answers.yes, self.answers.no
            how = f"p(yes) by {self._model.protocol}: labels {labels}, ids {hash_value([*ids, *labels])[:16]}"
            yield Question(
                self.generator.identity,
                _NOTHING,
                Candidates(texts, how, prefix=ids[0], suffixes=ids[1]),
                self._template,
            )

    def most(self, question: Question) -> Usage:
        """Return the most that a request can cost."""
        return self.generator.most(question.chat)

    @property
    def _template(self) -> str:
        return " ".join(f"{name} {version}" for name, version in self.prompt.versions.items())

    async def _ask_all(
        self, asked: Sequence[tuple[RankingUser, Question]], store: Store, bar: Progress
    ) -> list[list[float]]:
        answers: dict[int, list[float]] = {}
        refused: list[str] = []
        waiting = iter(enumerate(asked))
        ahead = 2 * self._model.concurrency

        async def work(buying: Purchases) -> None:
            for place, (user, question) in waiting:
                try:
                    answers[place] = await self._answer(buying, user, question)
                except Unanswered as failure:
                    refused.append(failure.reason)
                bar.advance(1)

        try:
            async with (
                self.generator.session(_NOTHING) as answer,
                purchases(store, self.budget, answer, self.generator.most, ahead) as buying,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(min(ahead, len(asked))):
                    group.create_task(work(buying))
        except ExceptionGroup as several:  # what one request met ends the others
            raise several.exceptions[0] from several.exceptions[0].__cause__
        if refused:
            message = (
                f"{len(refused):,} of {len(asked):,} requests for scores have no answer, the first: "
                f"{refused[0]}; what was answered is stored, so run the same command again"
            )
            raise WriterError(message)
        return [answers[place] for place in range(len(asked))]

    async def _answer(self, buying: Purchases, user: RankingUser, question: Question) -> list[float]:
        users, is_elsewhere = (user.user_id,), False
        while True:
            found = await buying.find(question, users, waits=is_elsewhere)
            self._reused += found is not None
            found = found or await buying.buy(question, users)
            if found is not None:
                scores: list[float] = json.loads(found.text)
                return scores
            is_elsewhere = True


def _tokenizer(path: str) -> Any:
    try:
        return read_tokenizer(HuggingFaceModel(kind="huggingface", path=path))
    # A broken file raises whatever its reader raises.
    except Exception as error:
        message = f"model.tokenizer: {path!r} can't be loaded: {explain(path, error)}"
        raise ModelError(message) from error
