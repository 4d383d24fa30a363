"""p(yes) of many candidates from a model behind a server: four protocols, each one request and its reply.

What they look like was read in these sources:

- vLLM ``POST /generative_scoring``: https://docs.vllm.ai/en/v0.22.1/serving/online_serving/generative_scoring/
  and ``vllm/entrypoints/openai/generative_scoring/serving.py`` (commit 0a37052d). A prompt that is longer
  than the server's context is cut there without a word; its ``usage`` shows it.
- SGLang ``POST /v1/score``: https://docs.sglang.io/docs/basic_usage/native_api and ``ScoringRequest`` in
  ``python/sglang/srt/entrypoints/openai/protocol.py``; ``usage`` may be missing.
- OpenAI's older ``POST /v1/completions`` with ``echo`` and ``logprobs``, which vLLM and others have:
  ``vllm/entrypoints/openai/completion/protocol.py`` (commit 002032ee). Each answer goes behind the prompt,
  and the log-probability of the last token is read, so that it needn't be among the likeliest.
- ``transformers serve``: its ``/v1/chat/completions`` and ``/v1/completions`` refuse ``logprobs`` and
  ``echo`` (``transformers/cli/serving/completion.py`` of 5.23); ``POST /v1/systemone`` (``systemone.py``
  beside it) gives the probability of Yes against No, after the model's chat template and closing words.
- ``POST /tokenize`` of vLLM (``vllm/entrypoints/serve/tokenize/protocol.py``, commit 030ea52e) and SGLang
  (``serving_tokenize.py``, commit 0351c1fa): ``prompt``, ``add_special_tokens``; the ids are ``tokens``.
"""

from __future__ import annotations

import asyncio
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx2

from trsr.config.ranking import EndpointModel
from trsr.config.summary import Sampling
from trsr.llm.endpoint import Payer, ServerGenerator
from trsr.llm.exchange import Exchange, Refusal
from trsr.llm.generator import SCORED, Chat, Completion
from trsr.llm.pacing import Fault, Trouble
from trsr.records import Usage

_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Candidates(Chat):
    """What is asked about one user: the prefix, and each candidate's suffix, as token ids.

    The text of `user` is a JSON list of the same parts, for people and as the key in the store.
    """

    prefix: tuple[int, ...] = ()
    suffixes: tuple[tuple[int, ...], ...] = ()


class Protocol(ABC):
    """One request and its reply; `labels` are the token ids of yes and no."""

    reply: str
    """What a reply should be, as messages name it."""
    sends_ids: bool = True

    def __init__(self, config: EndpointModel, labels: tuple[int, int]) -> None:
        self.model = config.model
        self.labels = labels
        self.api = config.base_url.rstrip("/")
        self.root = self.api.removesuffix("/v1")

    @abstractmethod
    def request(self, asked: Candidates) -> tuple[str, dict[str, Any]]:
        """Return address and body."""

    @abstractmethod
    def scores(self, reply: Any, asked: Candidates) -> list[float]:
        """Read p(yes) of each candidate, in order; whatever is raised means another shape."""

    def tokens(self, asked: Candidates) -> int:
        """Count the prompt tokens that the server reads."""
        return sum(len(asked.prefix) + len(suffix) for suffix in asked.suffixes)


class Vllm(Protocol):
    """``{model, query, items, label_token_ids, apply_softmax}`` to ``{data: [{index, score}], usage}``."""

    reply = "list of scores, as vLLM's /generative_scoring gives it"

    def request(self, asked: Candidates) -> tuple[str, dict[str, Any]]:
        """Ask for the softmax over the two labels; the score is that of the first."""
        body = {"label_token_ids": [*self.labels], "apply_softmax": True, "add_special_tokens": False}
        return f"{self.root}/generative_scoring", _query(self.model, asked) | body

    def scores(self, reply: Any, asked: Candidates) -> list[float]:
        """Put the scores into the order of the items."""
        rows = {int(row["index"]): row["score"] for row in reply["data"]}
        return (
            [rows[place] for place in range(len(asked.suffixes))] if len(rows) == len(reply["data"]) else []
        )


class Sglang(Protocol):
    """``{model, query, items, label_token_ids, apply_softmax}`` to ``{scores: [[p_yes, p_no]], usage?}``."""

    reply = "list of scores, as SGLang's /v1/score gives it"

    def request(self, asked: Candidates) -> tuple[str, dict[str, Any]]:
        """Ask for the softmax over the two labels."""
        body = {"label_token_ids": [*self.labels], "apply_softmax": True}
        return f"{self.root}/v1/score", _query(self.model, asked) | body

    def scores(self, reply: Any, asked: Candidates) -> list[float]:
        """Read the first label's; both together are 1, or no softmax was taken."""
        return [yes if abs(yes + no - 1) < 1e-3 else math.nan for yes, no in reply["scores"]]


class Completions(Protocol):
    """``{model, prompt, echo, logprobs}`` to ``{choices: [{index, logprobs: {token_logprobs}}], usage}``."""

    reply = "completion with log-probabilities of its prompt (echo and logprobs)"

    def request(self, asked: Candidates) -> tuple[str, dict[str, Any]]:
        """Ask for each candidate's prompt twice, with either answer behind it."""
        body = {"max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0.0, "stream": False}
        return f"{self.api}/completions", {"model": self.model, "prompt": self._prompts(asked)} | body

    def scores(self, reply: Any, asked: Candidates) -> list[float]:
        """Take the softmax over the log-probabilities of the two answers."""
        prompts = self._prompts(asked)
        told = {int(choice["index"]): choice["logprobs"]["token_logprobs"] for choice in reply["choices"]}
        # With or without the token that had to be written.
        if any(len(told[place]) - len(prompt) not in (0, 1) for place, prompt in enumerate(prompts)):
            raise ValueError(len(told))
        answers = [float(told[place][len(prompt) - 1]) for place, prompt in enumerate(prompts)]
        return [_share(yes, no) for yes, no in zip(answers[::2], answers[1::2], strict=True)]

    def tokens(self, asked: Candidates) -> int:
        """Count both prompts of each candidate."""
        return sum(map(len, self._prompts(asked)))

    def _prompts(self, asked: Candidates) -> list[list[int]]:
        return [[*asked.prefix, *suffix, label] for suffix in asked.suffixes for label in self.labels]


class Transformers(Protocol):
    """``{model, state, questions: {name: {type, instructions}}}`` to ``{answers: {name: {noul}}, usage}``.

    The prompt is text in the model's chat template, and the labels are the server's own words Yes and No,
    which it refuses itself where they are no single tokens. Each candidate has a request of its own: a
    model's decision template may put all questions of one into one prompt.
    """

    reply = "answer, as /v1/systemone of `transformers serve` gives it"
    sends_ids = False

    def request(self, asked: Candidates) -> tuple[str, dict[str, Any]]:
        """Ask whether the one candidate is next."""
        prefix, suffix = json.loads(asked.user)
        questions = {"next": {"type": "noul", "instructions": suffix}}
        return f"{self.api}/systemone", {"model": self.model, "state": prefix, "questions": questions}

    def scores(self, reply: Any, asked: Candidates) -> list[float]:
        """Read the probability of true."""
        return [reply["answers"]["next"]["noul"]]


PROTOCOLS: Final[Mapping[str, type[Protocol]]] = {
    "vllm": Vllm, "sglang": Sglang, "completions": Completions, "transformers": Transformers,
}  # fmt: skip


def _query(model: str, asked: Candidates) -> dict[str, Any]:
    items = [[*suffix] for suffix in asked.suffixes]
    return {"model": model, "query": [*asked.prefix], "items": items, "item_first": False}


def _share(yes: float, no: float) -> float:
    """Return the first one's part of two log-probabilities.

    Examples
    --------
    >>> _share(-1.0, -1.0), round(_share(-1.0, -800.0), 3), _share(float("-inf"), -1.0)
    (0.5, 1.0, 0.0)
    """
    if math.isnan(yes) or math.isnan(no) or max(yes, no) == -math.inf:
        return math.nan
    return 1 / (1 + math.exp(no - yes)) if no - yes < 700 else 0.0


class ScoreReplies(Exchange):
    """Asks a server once for the scores of a user's candidates; see `Exchange`.

    `probes` are texts with the token ids that they must have in the server's tokenizer, too: it is asked
    before the first question.
    """

    def __init__(
        self, config: EndpointModel, protocol: Protocol, probes: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(
            config,
            reply=protocol.reply,
            shorter="prompt.max_tokens",
            wording=f"check that the server speaks model.protocol: {config.protocol}, and what it says",
        )
        self.protocol = protocol
        self._name = config.model
        self._probes = dict(probes) if config.check_tokens and protocol.sends_ids else {}
        self._lock = asyncio.Lock()

    async def ask(self, client: httpx2.AsyncClient, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        """Ask about one user's candidates; the text of the answer is a JSON list of p(yes)."""
        assert isinstance(chat, Candidates)
        async with self._lock:
            while self._probes:
                text, ids = next(iter(self._probes.items()))
                if (trouble := await self._compare(client, text, ids)) is not None:
                    return trouble
                del self._probes[text]
        url, body = self.protocol.request(chat)
        outcome = await self.post(client, url, body, lambda reply: self._read(reply, chat))
        return self.trouble(outcome) if isinstance(outcome, Refusal) else outcome

    def _read(self, reply: Any, asked: Candidates) -> Completion | Trouble | Refusal:
        if reply.get("error"):
            return self.error_in_body(reply)
        scores = self.protocol.scores(reply, asked)
        if len(scores) != len(asked.suffixes):
            wrong = f"{len(scores)} scores for {len(asked.suffixes)} candidates"
        elif odd := [score for score in scores if not _is_probability(score)]:
            wrong = f"a score of {odd[0]!r}, which is no probability"
        else:
            usage = reply.get("usage") or {}
            prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
            written = _count(usage.get("completion_tokens"))
            return Completion(json.dumps([float(score) for score in scores]), prompt, written or 0, SCORED)
        said = f"{self.where}: the reply has {wrong}; see the server's log"
        return Trouble(Fault.TRY, said, may_be_charged=True)

    async def _compare(self, client: httpx2.AsyncClient, text: str, ids: Sequence[int]) -> Trouble | None:
        """Hold the server's tokens of a text against ours; None when they are the same."""
        body = {"model": self._name, "prompt": text, "add_special_tokens": False}
        told = await self.post(
            client, f"{self.protocol.root}/tokenize", body, lambda reply: [int(i) for i in reply["tokens"]]
        )
        if isinstance(told, Refusal) and told.status in (404, 405, 501):
            return Trouble(
                Fault.SETTINGS,
                f"{self.where}: it has no /tokenize, so the tokens of the answers can't be checked; set "
                "model.check_tokens to false when model.tokenizer is certainly that of its model",
            )
        if isinstance(told, Refusal):
            told = self.trouble(told)
        if isinstance(told, Trouble):
            return replace(told, may_be_charged=False)  # nobody asks money for tokens
        if told == [*ids]:
            return None
        return Trouble(
            Fault.SETTINGS,
            f"{self.where}: its tokenizer is another one than model.tokenizer: {text[-24:]!r} ends in "
            f"{told[-3:]} there and in {[*ids[-3:]]} here; set model.tokenizer to that of its model",
        )


def _is_probability(score: object) -> bool:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return False
    return math.isfinite(score) and -_ROUNDING <= score <= 1 + _ROUNDING


def _count(told: object) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) and told > 0 else None


class ScoreGenerator(ServerGenerator):
    """Scores of candidates by a server, asked as `ServerGenerator` asks; an answer is a JSON list of p(yes).

    Where the server tells how many prompt tokens it read, they must be those that were sent: fewer means
    that it cuts prompts.
    """

    style = "chat"

    def __init__(
        self,
        config: EndpointModel,
        labels: tuple[int, int],
        probes: Mapping[str, Sequence[int]],
        payer: Payer | None = None,
    ) -> None:
        self.protocol = PROTOCOLS[config.protocol](config, labels)
        identity = f"{config.model}@{config.revision}" if config.revision else config.model
        super().__init__(config, ScoreReplies(config, self.protocol, probes), identity, payer)
        self._checks = config.check_tokens and self.protocol.sends_ids

    def most(self, chat: Chat, sampling: Sampling | None = None) -> Usage:
        """Count what is sent; at most one token is written for each prompt."""
        assert isinstance(chat, Candidates)
        return Usage(1, 0, self.protocol.tokens(chat), 2 * len(chat.suffixes))

    def _check(self, most: Usage, answer: Completion) -> Completion | Trouble:
        told = answer.prompt_tokens
        if not self._checks or told is None or told == most.prompt_tokens:
            return answer
        return Trouble(
            Fault.SETTINGS,
            f"{self._replies.where}: the server counts {told:,} tokens in prompts of {most.prompt_tokens:,}, "
            "so it reads others than were sent; raise its context length, or lower prompt.max_tokens; if its "
            "count is wrong (some leave out what their cache has), set model.check_tokens to false",
            may_be_charged=True,
        )
