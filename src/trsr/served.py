"""Rankers whose model is behind a server: what it is asked is stored here, and paid for once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from trsr.artifacts import hash_value
from trsr.config import Config
from trsr.config.ranking import EndpointModel, HuggingFaceModel
from trsr.config.summary import Sampling
from trsr.errors import ConfigError, ModelError, WriterError
from trsr.hf.loading import explain, read_tokenizer
from trsr.hf.tokenization import PlainEncoder, TokenizerTokens, leading_ids
from trsr.llm.endpoint import EndpointGenerator, ServerGenerator
from trsr.llm.generator import Chat, Unanswered
from trsr.llm.scoring import Candidates, ScoreGenerator
from trsr.progress import Progress
from trsr.prompts.item_text import ApproximateTokens, Tokens, item_line, neutralise
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import RANK_ORDER, Templates
from trsr.ranking.scoring import EncodedUser, RankingUser, encode_users, find_answers
from trsr.records import Item, Usage
from trsr.summarize.cost import Budget, cost
from trsr.summarize.purchases import Purchases, finish, purchases, work_through
from trsr.summarize.store import Question, Store

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")

_FORMAT: Final = 1
_NOTHING: Final = Sampling(max_new_tokens=1)
"""Nothing is drawn."""


class _Served:
    """Asks a server questions about users; every answer is stored by its content before it counts."""

    generator: ServerGenerator

    def __init__(self, config: Config, sampling: Sampling) -> None:
        assert isinstance(config.model, EndpointModel)
        self._config = config
        self._model = config.model
        self._sampling = sampling
        self.budget = Budget(config.model.limits, config.model.price, "model")
        self._reused = 0

    @property
    def told(self) -> dict[str, Any]:
        """What was paid for so far: calls, tokens, and money where the price is known."""
        spent, price = self.budget.spent, self._model.price
        return {
            "calls": spent.calls,
            "calls_reused": self._reused,
            "prompt_tokens": spent.prompt_tokens,
            "money": cost(spent, price),
            "currency": price.currency,
        }

    def most(self, question: Question) -> Usage:
        """Return the most that a request can cost."""
        return self._most(question.chat)

    def _most(self, chat: Chat) -> Usage:
        return self.generator.most(chat, self._sampling)

    async def _ask_all(
        self,
        asked: Sequence[tuple[RankingUser, _Asked]],
        store: Store,
        bar: Progress,
        answer: Callable[[Purchases, RankingUser, _Asked], Awaitable[_Answer]],
    ) -> list[_Answer]:
        """Let `answer` make of each what it buys; raises as `ServedRanker.score` does."""
        answers: dict[int, _Answer] = {}
        refused: list[str] = []
        ahead = 2 * self._model.concurrency

        async def work(waiting: tuple[int, tuple[RankingUser, _Asked]]) -> None:
            place, (user, question) = waiting
            try:
                answers[place] = await answer(buying, user, question)
            except Unanswered as failure:
                refused.append(failure.reason)
            bar.advance(1)

        async with (
            self.generator.session(self._sampling) as answering,
            purchases(store, self.budget, answering, self._most, ahead) as buying,
        ):
            await work_through(enumerate(asked), work, min(ahead, len(asked)))
        if refused:
            message = (
                f"{len(refused):,} of {len(asked):,} requests for scores have no answer, the first: "
                f"{refused[0]}; what was answered is stored, so run the same command again"
            )
            raise WriterError(message)
        return [answers[place] for place in range(len(asked))]

    async def _buy(self, buying: Purchases, user: RankingUser, question: Question) -> str:
        """Give the answer's text, from the store where it is there."""
        users, is_elsewhere = (user.user_id,), False
        while True:
            found = await buying.find(question, users, waits=is_elsewhere)
            self._reused += found is not None
            found = found or await buying.buy(question, users)
            if found is not None:
                return found.text
            is_elsewhere = True


class ServedRanker(_Served):
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
        super().__init__(config, _NOTHING)
        assert isinstance(config.model, EndpointModel)
        if config.model.protocol == "chat":
            message = (
                "model.protocol: chat writes orders, which are no p(yes): name it in comparison.untrained, "
                "with by: order, or take another protocol"
            )
            raise ConfigError(message)
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
        texts = [self.prompt.prefix("", ()).text, *(f"{slot} {word}" for word in words)]
        probes = dict(zip(texts, encode(texts), strict=True))
        self.generator: ScoreGenerator = ScoreGenerator(
            config.model, (self.answers.yes, self.answers.no), probes, self.budget
        )

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
            answers = iter(finish(self._ask_all(asked, store, bar, self._scores_of)))
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

    @property
    def _template(self) -> str:
        return " ".join(f"{name} {version}" for name, version in self.prompt.versions.items())

    async def _scores_of(self, buying: Purchases, user: RankingUser, question: Question) -> list[float]:
        scores: list[float] = json.loads(await self._buy(buying, user, question))
        return scores


class ServedOrder(_Served):
    """Lets a chat model behind a server write the order of each user's candidates, all at once.

    The form Rank of LLMSeqPrompt (Boz et al., 2024) without its fine-tuning, which a provider may have done.
    Candidates stand in an order that their texts and the run's seed decide, so that where they stood tells
    nothing. An answer that leaves out most of them is asked for once more; what the longer one doesn't name
    is level behind the rest.
    """

    def __init__(self, config: Config) -> None:
        assert isinstance(config.model, EndpointModel)
        super().__init__(config, config.model.sampling)
        self.generator = EndpointGenerator(config.model, self.budget)
        named = config.model.tokenizer
        self._tokens: Tokens = (
            TokenizerTokens(PlainEncoder(_tokenizer(named))) if named else ApproximateTokens()
        )
        self._templates = Templates(config.prompt.domain, config.prompt.templates)
        self._orders: Counter[str] = Counter()

    @property
    def card(self) -> dict[str, Any]:
        """What the ranker is, as JSON values; no address and no key."""
        return {
            "format": _FORMAT,
            "kind": "endpoint",
            "identity": self.generator.identity,
            "protocol": self._model.protocol,
            "templates": self._templates.versions([RANK_ORDER]),
        }

    @property
    def told(self) -> dict[str, Any]:
        """What was paid for, and what the answers were worth; see `_Served.told`."""
        return {**super().told, ORDERS: dict(sorted(self._orders.items()))}

    def score(
        self, users: Sequence[RankingUser], batch_tokens: int = 0, *, title: str | None = None
    ) -> list[NDArray[np.float64]]:
        """Return points by places, ``(n_candidates,)`` a user: the most for the first, then one less each.

        Raises what `ServedRanker.score` does.
        Equal texts are one candidate, and those that the answer leaves out have 0.
        """
        lines = [[self._line(item) for item in user.candidates] for user in users]
        asked = [(user, self._shuffled(own)) for user, own in zip(users, lines, strict=True)]
        with (
            Store(self._config.store_url) as store,
            Progress(title or "", len(asked), "users", shown=title is not None) as bar,
        ):
            orders = finish(self._ask_all(asked, store, bar, self._order_of))
        scores = []
        for own, (_, shown), order in zip(lines, asked, orders, strict=True):
            points = {shown[place]: len(shown) - rank for rank, place in enumerate(order)}
            scores.append(np.array([float(points.get(line, 0)) for line in own]))
        return scores

    def question(self, user: RankingUser, shown: Sequence[str], *, again: bool = False) -> Question:
        """Word a user's candidates in the order in which they are shown."""
        most = self._config.prompt.recent_items
        recent = user.history[len(user.history) - min(len(user.history), most) :]
        told = self._tokens.cut(neutralise(user.summary), self._config.prompt.summary_tokens)
        lines = [self._line(item) for item in recent]
        text = self._templates.render(RANK_ORDER, recent=lines, summary=told, candidates=shown, again=again)
        version = f"{RANK_ORDER} {self._templates.version(RANK_ORDER)}"
        return Question(self.generator.identity, self._sampling, Chat(text.strip()), version)

    def _line(self, item: Item) -> str:
        return item_line(item, self._tokens, self._config.ranking_item_tokens)

    def _shuffled(self, lines: Sequence[str]) -> list[str]:
        return sorted(set(lines), key=lambda line: hash_value([self._config.seed, line]))

    async def _order_of(self, buying: Purchases, user: RankingUser, shown: Sequence[str]) -> list[int]:
        order = read_order(await self._buy(buying, user, self.question(user, shown)), len(shown))
        if 2 * len(order) < len(shown):
            self._orders["asked again"] += 1
            again = self.question(user, shown, again=True)
            order = max(order, read_order(await self._buy(buying, user, again), len(shown)), key=len)
        self._orders["whole" if len(order) == len(shown) else "incomplete" if order else "none"] += 1
        return order


ORDERS: Final = "orders"
"""Detail on the card of scores by a `ServedOrder`: its answers, counted by what they were worth."""

_RUN: Final = re.compile(r"\d+(?:[\s,;>|.()\[\]-]+\d+)*")
_LEAST: Final = 2


def read_order(answer: str, count: int) -> list[int]:
    r"""Read the places, from 0, that an answer puts into an order; of several, the longest.

    Numbers that are none of the `count` candidates' and those that stand there again are left out, and
    thoughts before the answer aren't read. A numbered list of numbers is known as such. An order is of two at
    least.

    Examples
    --------
    >>> read_order("All 3: 2 > 3 > 1.", 3)
    [1, 2, 0]
    >>> read_order("<think>1, 2 or 3?</think>[3], [3], [9], [1]", 3)
    [2, 0]
    >>> read_order("1. 3\n2. 1\n3. 2", 3)
    [2, 0, 1]
    >>> read_order("I like 2 best.", 3)
    []
    """
    runs = [list(map(int, re.findall(r"\d+", run))) for run in _RUN.findall(answer.rpartition("</think>")[2])]
    numbers = max(runs, key=len, default=[])
    if len(numbers) > _LEAST and numbers[::2] == list(range(1, len(numbers) // 2 + 1)):
        numbers = numbers[1::2]
    places = list(dict.fromkeys(number - 1 for number in numbers if 1 <= number <= count))
    return places if len(places) >= min(_LEAST, count) else []


def _tokenizer(path: str) -> Any:
    try:
        return read_tokenizer(HuggingFaceModel(kind="huggingface", path=path))
    # A broken file raises whatever its reader raises.
    except Exception as error:
        message = f"model.tokenizer: {path!r} can't be loaded: {explain(path, error)}"
        raise ModelError(message) from error
