"""One request to an OpenAI-compatible server, and what its reply means."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx2

from trsr.config.summary import ChatEndpoint, RequestBody, Sampling
from trsr.errors import DataError
from trsr.llm.exchange import CONTEXT, Exchange, Refusal, words
from trsr.llm.generator import Chat, Completion
from trsr.llm.pacing import Fault, Trouble
from trsr.prompts.item_text import ApproximateTokens

_LOG: Final = logging.getLogger(__name__)
_LIMIT_NAMES: Final = ("max_tokens", "max_completion_tokens")
_LARGEST_COUNT: Final = 10**9
_LEAST_SHARE: Final = 0.25
"""Of a text's own tokens, as counted here, that a believable count of them reports at least."""
_ENDS_AT_LIMIT: Final = ("length", "max_tokens", "model_length")
_REFUSAL: Final = words(
    r"unsupported",
    r"not support",
    r"unknown",
    r"unrecogni[sz]ed",
    r"unexpected",
    r"\bextra(?:neous)?\b|extra_",
    r"forbidden",
    r"not (?:be )?(?:permitted|allowed|accepted|valid|available|used|specified|set)",
    r"deprecated",
    r"cannot both",
    r"only one of",
)
_RANGE: Final = words(r"must be", r"should be", r"greater than", r"less than", r"out of range")
_CONFLICT: Final = words(r"\bboth\b", r"only one of", r"mutually")
_SYSTEM: Final = words(
    r"roles? must alternate",
    r"system (?:role|message|prompt|instruction)s? (?:is|are|was|were)?\s*not",
    r"\brole\W.{0,20}not support",
    r"not support.{0,20}\b(?:system|developer)\W?\s*(?:role|message|prompt|instruction)",
    r"only user and assistant roles",
    r"(?:unsupported|unknown|unexpected|invalid) role",
    r"developer instruction is not",
)


class Replies(Exchange):
    """Asks a server once for an answer in words; see `Exchange`.

    A parameter, or the role of the instruction, that the server refuses by name is left out or renamed, and
    the same call is sent again at once; every later call is sent that way. A refused request costs nothing,
    and no try.
    """

    def __init__(self, config: ChatEndpoint) -> None:
        super().__init__(
            config,
            reply="chat completion",
            shorter=config.shorter,
            wording=f"{config.setting}.request leaves out or renames what a server doesn't take",
        )
        self._model = config.model
        self._setting = f"{config.setting}.request"
        self._request = config.request
        self._root = config.base_url.rstrip("/")
        self._limit_names = {name for name in _LIMIT_NAMES if name != config.request.max_tokens_name}

    async def ask(self, client: httpx2.AsyncClient, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        """Send one chat and read the reply, within the time-out for both."""
        while True:
            request = self._request
            outcome = await self._send(client, request, chat, sampling)
            if not isinstance(outcome, Refusal):
                return outcome
            # Several calls meet the same refusal; the first one has changed the request for all.
            if self._request is request and not self._adapt(outcome, chat, sampling):
                return self.trouble(outcome)

    async def _send(
        self, client: httpx2.AsyncClient, request: RequestBody, chat: Chat, sampling: Sampling
    ) -> Completion | Trouble | Refusal:
        parameters = _parameters(sampling, chat)
        try:
            image = await _data_url(chat)
        except DataError as error:
            return Trouble(Fault.PROMPT, str(error))
        messages = _messages(chat, request, image)
        body = {
            "model": self._model,
            **({"prompt": chat.user} if chat.is_continued else {"messages": messages}),
            "stream": False,
            request.max_tokens_name: sampling.max_new_tokens,
            **{name: value for name, value in parameters.items() if name not in request.omit},
            **request.extra,
        }
        where = "completions" if chat.is_continued else "chat/completions"
        return await self.post(
            client, f"{self._root}/{where}", body, lambda reply: self._read(reply, request)
        )

    def _read(self, body: Any, request: RequestBody) -> Completion | Refusal:
        if not body.get("choices") and body.get("error"):
            return self.error_in_body(body)
        choice = body["choices"][0]
        if choice.get("error"):
            return self.error_in_body(choice)
        content = _content(choice["message"]) if "message" in choice else str(choice["text"])
        prompt, completion = read_usage(body.get("usage"), content)
        finish = str(choice.get("finish_reason") or "stop").lower()
        return Completion(
            text=self.without_key(content.strip()),
            prompt_tokens=prompt,
            completion_tokens=completion,
            finish_reason="length" if finish in _ENDS_AT_LIMIT else finish,
            omitted=request.omit,
        )

    def _adapt(self, refusal: Refusal, chat: Chat, sampling: Sampling) -> bool:
        """Leave out or rename what the server refuses by name; False when it names nothing that can be."""
        request, config = self._request, self._setting
        if refusal.status in (401, 402, 403, 429) or CONTEXT.search(refusal.whole):
            return False
        if chat.system and request.system_role != "user" and _SYSTEM.search(refusal.whole):
            change: dict[str, Any] = {"system_role": "user"}
            told = f"the instruction heads the user's message from now on ({config}.system_role: user)"
        elif not (name := _refused_parameter(refusal.whole, request, _parameters(sampling, chat))):
            return False
        elif name != request.max_tokens_name:
            change = {"omit": (*request.omit, name)}
            told = f"it is left out from now on, so the provider's own holds ({config}.omit: [{name}])"
        elif self._limit_names:  # never left out: nothing else bounds what an answer costs
            other = self._limit_names.pop()
            change = {"max_tokens_name": other}
            told = f"it is sent as {other} from now on ({config}.max_tokens_name: {other})"
        else:
            return False
        self._request = request.model_copy(update=change)
        _LOG.warning("%s refuses a part of the request: %s; %s", self.where, refusal.said, told)
        return True


def read_usage(usage: Any, text: str) -> tuple[int | None, int | None]:
    """Read how many tokens prompt and answer had; None for what isn't told or can't be.

    A prompt is never of no tokens, nor is a text, nor is a text of a hundred words of five. Where a total is
    told, it fills what is missing, and counts where it is more: some providers leave thoughts out of the
    completion and charge them. A count beyond the limit may be true, and is taken as it is. A prompt of less
    than what of it came from the cache was counted without that.

    Examples
    --------
    >>> read_usage({"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102}, "Likes tea.")
    (90, 12)
    >>> read_usage({"prompt_tokens": 90, "total_tokens": 130}, "Likes tea.")
    (90, 40)
    >>> read_usage({"prompt_tokens": 0, "completion_tokens": -3, "total_tokens": 0}, "Likes tea.")
    (None, None)
    """
    told = usage if isinstance(usage, dict) else {}
    prompt = _tokens(told.get("prompt_tokens", told.get("input_tokens"))) or None
    completion = _tokens(told.get("completion_tokens", told.get("output_tokens")))
    total = _tokens(told.get("total_tokens")) or 0
    details = told.get("prompt_tokens_details")
    cached = (_tokens(details.get("cached_tokens")) or 0) if isinstance(details, dict) else 0
    if completion is not None and completion < max(
        bool(text), _LEAST_SHARE * ApproximateTokens().count(text)
    ):
        completion = None
    if prompt is None and completion and total > completion:
        prompt = total - completion
    if prompt is not None and total > prompt + (completion or 0):
        completion = total - prompt
    if prompt is not None and cached > prompt:
        prompt += cached
    return prompt, None if completion == 0 and (text or prompt is None) else completion


def _tokens(value: Any) -> int | None:
    """Read a whole number of tokens, as a number or a text; None for anything else."""
    if isinstance(value, bool) or not re.fullmatch(r"\d{1,10}(?:\.0)?", str(value)):
        return None
    count = int(float(value))
    return count if count < _LARGEST_COUNT else None


async def _data_url(chat: Chat) -> str:
    """Read and encode a chat's image, which takes its time; empty where it has none."""
    if chat.image is None:
        return ""
    encoded = await asyncio.to_thread(chat.image.encode)
    return f"data:{encoded.media_type};base64,{base64.b64encode(encoded.content).decode('ascii')}"


def _messages(chat: Chat, request: RequestBody, image: str) -> list[dict[str, Any]]:
    if not chat.system or request.system_role == "user":
        text = "\n\n".join(filter(None, (chat.system, chat.user)))
        return [{"role": "user", "content": _parts(text, image)}]
    system = {"role": request.system_role, "content": chat.system}
    return [system, {"role": "user", "content": _parts(chat.user, image)}]


def _parts(text: str, image: str) -> str | list[dict[str, Any]]:
    """Write a message: a text alone, or the image before it, as models were trained."""
    if not image:
        return text
    return [{"type": "image_url", "image_url": {"url": image}}, {"type": "text", "text": text}]


def _parameters(sampling: Sampling, chat: Chat) -> dict[str, Any]:
    found: dict[str, Any] = {
        "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed
    }  # fmt: skip
    if sampling.frequency_penalty:
        found["frequency_penalty"] = sampling.frequency_penalty
    if chat.is_continued:
        found["stop"] = ["\n"]
    return found


def _refused_parameter(said: str, request: RequestBody, parameters: Mapping[str, Any]) -> str:
    """Name the parameter of ours that a refusal is about; empty when it is about none."""
    sent = [request.max_tokens_name, *(name for name in parameters if name not in request.omit)]
    found = {name: re.search(rf"(?<!\w){name}(?!\w)", said) for name in sent}
    named = sorted((match.start(), name) for name, match in found.items() if match)
    if not named:
        return ""
    first = named[0][1]
    # Some servers refuse the very values that mean "no sampling", instead of the parameter.
    neutral = {"temperature": parameters["temperature"] == 0, "top_p": parameters["top_p"] == 1}
    if not _REFUSAL.search(said) and not (neutral.get(first) and _RANGE.search(said)):
        return ""
    if _CONFLICT.search(said) and found.get("top_p") and found.get("temperature"):
        return "top_p"
    return first


def _content(message: Mapping[str, Any]) -> str:
    """Return the answer's text, whole or in parts; where there is none, the thoughts in its place, marked."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    text = "".join(_part(part) for part in parts) or str(message.get("refusal") or "")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    return text if text.strip() or not thoughts else f"<think>{thoughts}"


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return str(part or "")
    if "text" in part or "refusal" in part:
        return _part(part.get("text") or part.get("refusal"))
    inside = part.get("thinking") or part.get("reasoning") or ""
    thoughts = "".join(_part(one) for one in inside) if isinstance(inside, list) else str(inside)
    return f"<think>{thoughts}</think>" if thoughts else ""
