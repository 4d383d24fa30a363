"""One request to an OpenAI-compatible server, and what its reply means."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any, Final

import httpx2

from trsr.config.summary import EndpointWriter, RequestBody, Sampling
from trsr.llm.generator import Chat, Completion
from trsr.llm.pacing import Fault, Trouble, read_wait
from trsr.prompts.item_text import ApproximateTokens, neutralise

# Servers without keys ignore it; others say that it is missing.
_NO_KEY: Final = "no-key"
_LOG: Final = logging.getLogger(__name__)
_SHOWN: Final = 300
_BUSY: Final = (429, 502, 503, 504)
_PASSING: Final = (408, 409, 425)
_PROMPT: Final = (400, 413, 422)
_TIMED_OUT: Final = (408, 504, 524)
"""A gateway gave up waiting: the server behind it may have done the work."""
_NOT_THERE: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_NO_API: Final = ("<", "data:", "event:", ":")
"""How web pages and streams of events begin."""
_LIMIT_NAMES: Final = ("max_tokens", "max_completion_tokens")
_LARGEST_COUNT: Final = 10**9
_LEAST_SHARE: Final = 0.25
"""Of a text's own tokens, as counted here, that a believable count of them reports at least."""
_ENDS_AT_LIMIT: Final = ("length", "max_tokens", "model_length")


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


# What providers write where they refuse something, in their own words.
_KEYS: Final = _words(
    r"\b(?:sk|gsk|hf|xai|r8|nvapi|pplx|AIza)[-_][\w*.-]{2,}",
    r"\bAIza[\w*-]{8,}",
    r"(?<=Bearer )\S+",
    r"(?<=api key provided: )[^\s.,]+",
)
_REFUSAL: Final = _words(
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
_RANGE: Final = _words(r"must be", r"should be", r"greater than", r"less than", r"out of range")
_CONFLICT: Final = _words(r"\bboth\b", r"only one of", r"mutually")
_SYSTEM: Final = _words(
    r"roles? must alternate",
    r"system (?:role|message|prompt|instruction)s? (?:is|are|was|were)?\s*not",
    r"\brole\W.{0,20}not support",
    r"not support.{0,20}\b(?:system|developer)\W?\s*(?:role|message|prompt|instruction)",
    r"only user and assistant roles",
    r"(?:unsupported|unknown|unexpected|invalid) role",
    r"developer instruction is not",
)
_CONTEXT: Final = _words(
    r"context (?:length|size|window)",
    r"(?:prompt|input|request|message)s? (?:is|are)? ?too (?:long|large)",
    r"too many (?:input )?tokens",
    r"must have less than \d+ tokens",
    r"reduce the length",
)
_NO_MODEL: Final = _words(r"\bmodel\b.{0,80}(?:not found|not exist)", r"unknown model", r"model_not_found")
_NO_QUOTA: Final = _words(
    r"insufficient[_ ](?:quota|credits?|balance|funds)", r"balance is too low", r"billing_(?:hard|not)"
)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A reply that is an error: its status, the server's own sentence, and all names and codes beside it."""

    status: int
    said: str
    facts: str
    headers: Mapping[str, str]
    redirected_to: str = ""
    may_be_charged: bool = False

    @property
    def whole(self) -> str:
        return f"{self.said} {self.facts}"


class Replies:
    """Asks a server once and turns whatever happens into an answer or a `Trouble`; it raises nothing.

    A parameter, or the role of the instruction, that the server refuses by name is left out or renamed, and
    the same call is sent again at once; every later call is sent that way. A refused request costs nothing,
    and no try.

    The server's key is read from the environment and taken out of everything that a reply says. `where` is
    server and model, as messages name them.
    """

    def __init__(self, config: EndpointWriter) -> None:
        self._config = config
        self._key = os.environ.get(config.api_key_env) or _NO_KEY
        self._request = config.request
        self._has_answered = False
        self._limit_names = {name for name in _LIMIT_NAMES if name != config.request.max_tokens_name}
        self.where = f"{config.base_url}, model {config.model!r}"

    def connect(self) -> httpx2.AsyncClient:
        """Make the client, with a connection for each call that may be under way."""
        config = self._config
        return httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=httpx2.Timeout(config.timeout_s, connect=config.connect_timeout_s),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=config.concurrency),
            follow_redirects=True,
        )

    async def ask(self, client: httpx2.AsyncClient, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        """Send one chat and read the reply, within the time-out for both."""
        while True:
            request = self._request
            outcome = await self._send(client, request, chat, sampling)
            if not isinstance(outcome, _Refusal):
                return outcome
            # Several calls meet the same refusal; the first one has changed the request for all.
            if self._request is request and not self._adapt(outcome, chat, sampling):
                return self._trouble(outcome)

    async def _send(
        self, client: httpx2.AsyncClient, request: RequestBody, chat: Chat, sampling: Sampling
    ) -> Completion | Trouble | _Refusal:
        parameters = _parameters(sampling, chat)
        body = {
            "model": self._config.model,
            **({"prompt": chat.user} if chat.is_continued else {"messages": _messages(chat, request)}),
            "stream": False,
            request.max_tokens_name: sampling.max_new_tokens,
            **{name: value for name, value in parameters.items() if name not in request.omit},
            **request.extra,
        }
        where = "completions" if chat.is_continued else "chat/completions"
        try:
            async with asyncio.timeout(self._config.timeout_s):
                reply = await client.post(f"{self._config.base_url.rstrip('/')}/{where}", json=body)
                return self._read(reply.text, request) if reply.is_success else self._refusal(reply)
        except (TimeoutError, httpx2.HTTPError) as error:
            return self._lost(error)
        except (httpx2.InvalidURL, UnicodeError) as error:
            said = self._conceal(str(error))
            return Trouble(Fault.TRY, f"{self.where}: {said}; is it an OpenAI-compatible server?")

    def _read(self, text: str, request: RequestBody) -> Completion | Trouble | _Refusal:
        try:
            body = json.loads(text)
            if not body.get("choices") and body.get("error"):
                return self._error_in_body(body)
            choice = body["choices"][0]
            if choice.get("error"):
                return self._error_in_body(choice)
            content = _content(choice["message"]) if "message" in choice else str(choice["text"])
            self._has_answered = True
            prompt, completion = read_usage(body.get("usage"), content)
            finish = str(choice.get("finish_reason") or "stop").lower()
            return Completion(
                text=self._without_key(content.strip()),
                prompt_tokens=prompt,
                completion_tokens=completion,
                finish_reason="length" if finish in _ENDS_AT_LIMIT else finish,
                omitted=request.omit,
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            said = f"{self.where}: {self._describe(text)}"
            # A page or a stream as the very first reply will be the second one too.
            is_elsewhere = not self._has_answered and text.lstrip().startswith(_NO_API)
            # Whatever it was, it came with "OK": the work may have been done.
            return Trouble(Fault.SETTINGS if is_elsewhere else Fault.TRY, said, may_be_charged=True)

    def _describe(self, text: str) -> str:
        """Say what a reply is that is no chat completion, and what helps."""
        start = text.lstrip()
        if not start:
            return "the reply is empty; see the server's log"
        shown = self._conceal(_sentence(text))
        if start.startswith("<"):
            return (
                f"the reply is no chat completion but a web page: {shown!r}; check that base_url ends in the "
                "API's root, such as /v1, and that no sign-in page or proxy stands before the server"
            )
        if start.startswith(_NO_API):
            return (
                f"the reply is no chat completion but a stream, which was not asked for: {shown!r}; see the "
                "settings of the server or of what stands before it"
            )
        return (
            f"the reply is no chat completion: {shown!r}; check that base_url ends in the API's root, such "
            "as /v1"
        )

    def _error_in_body(self, body: Mapping[str, Any]) -> _Refusal:
        error = body["error"]
        code = str(error.get("code") if isinstance(error, dict) else body.get("code"))
        status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 200
        return _Refusal(status, self._conceal(_sentence(error)), _facts(error), {}, may_be_charged=True)

    def _refusal(self, response: httpx2.Response) -> _Refusal:
        return _Refusal(
            status=response.status_code,
            said=self._conceal(_sentence(response.text)) or "no word",
            facts=_facts(response.text),
            headers=response.headers,
            redirected_to=str(response.url) if response.history else "",
            may_be_charged=response.status_code in _TIMED_OUT,
        )

    def _adapt(self, refusal: _Refusal, chat: Chat, sampling: Sampling) -> bool:
        """Leave out or rename what the server refuses by name; False when it names nothing that can be."""
        request, config = self._request, "summary.writer.request"
        if refusal.status in (401, 402, 403, 429) or _CONTEXT.search(refusal.whole):
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

    def _trouble(self, refusal: _Refusal) -> Trouble:
        status, fault = refusal.status, Fault.TRY
        if _CONTEXT.search(refusal.whole):
            fault = Fault.PROMPT
        elif _is_out_of_quota(refusal) or (status < 500 and _NO_MODEL.search(refusal.whole)):
            fault = Fault.SETTINGS
        elif status in _BUSY:
            fault = Fault.SERVER
        elif status in _PROMPT:
            fault = Fault.PROMPT
        elif status < 500 and status not in (200, *_PASSING):
            fault = Fault.SETTINGS
        message = f"{self.where}: status {status}: {refusal.said}; {self._next_step(refusal)}"
        wait = read_wait(refusal.headers, refusal.said)
        return Trouble(fault, message, wait, refusal.may_be_charged)

    def _lost(self, error: Exception) -> Trouble:
        """Tell a server that is not there from a reply that was lost: the cause's name says it."""
        reason = self._conceal(str(error) or type(error).__name__)
        if isinstance(error, _NOT_THERE):
            said = f"{self.where}: can't connect ({reason}); check base_url and that the server runs"
            return Trouble(Fault.SERVER, said)
        if isinstance(error, TimeoutError | httpx2.TimeoutException):
            said = (
                f"{self.where}: no answer within {self._config.timeout_s:g} s; raise "
                "summary.writer.timeout_s or lower summary.writer.concurrency"
            )
        else:
            said = f"{self.where}: the connection was lost ({reason}); see the server's log"
        return Trouble(Fault.TRY, said, may_be_charged=True)

    def _next_step(self, refusal: _Refusal) -> str:
        status, said, root = refusal.status, refusal.whole, self._config.base_url.rstrip("/")
        if refusal.redirected_to:
            target = refusal.redirected_to.removesuffix("/completions").removesuffix("/chat")
            return f"base_url leads elsewhere: set it to {target}"
        if _CONTEXT.search(said):
            return (
                "the prompt is too long for the server: raise its context length, or lower items.max_tokens, "
                "summary.block_size or summary.sampling.max_new_tokens"
            )
        if _is_out_of_quota(refusal):
            return "the account's quota is used up: add to it and run again, what was answered is stored"
        if _NO_MODEL.search(said):
            return (
                f"check summary.writer.model: {root}/models lists what the server has; load or pull the "
                "model there first"
            )
        return self._next_step_of(status, root)

    def _next_step_of(self, status: int, root: str) -> str:
        variable = self._config.api_key_env
        if status in (401, 403):
            state = "holds a key that it refuses" if os.environ.get(variable) else "is not set"
            return f"the environment variable {variable} {state}; put the server's key there"
        if status in (404, 405):
            wanted = "" if re.search(r"/v\d", root) else f": perhaps {root}/v1"
            return (
                f"check summary.writer.model, and that base_url ends in the API's root, such as /v1{wanted}"
            )
        if status in _PROMPT:
            return (
                "summary.writer.request leaves out or renames what a server doesn't take; if the prompt is "
                "too long, lower items.max_tokens, summary.block_size or summary.sampling.max_new_tokens"
            )
        if status == 429:
            return (
                "the server is busy or the quota is used up; lower summary.writer.concurrency, set "
                "summary.writer.requests_per_minute or tokens_per_minute, or wait"
            )
        return "see the server's log; what was answered is stored, so run again when it is well"

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key != _NO_KEY else text

    def _conceal(self, said: str) -> str:
        """Make what a server said fit to be shown: one short line, without anything that looks like a key."""
        line = neutralise(_KEYS.sub("***", self._without_key(said)))
        return line.rstrip(". ") if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."


def _is_out_of_quota(refusal: _Refusal) -> bool:
    """Tell an account without money, where waiting doesn't help, from a limit a minute."""
    return refusal.status == 402 or _NO_QUOTA.search(refusal.whole) is not None


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


def _messages(chat: Chat, request: RequestBody) -> list[dict[str, str]]:
    if not chat.system:
        return [{"role": "user", "content": chat.user}]
    if request.system_role == "user":
        return [{"role": "user", "content": f"{chat.system}\n\n{chat.user}"}]
    return [{"role": request.system_role, "content": chat.system}, {"role": "user", "content": chat.user}]


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


def _sentence(body: Any) -> str:
    """Find the server's own sentence in an error's body, whatever its shape; empty when there is no word.

    Examples
    --------
    >>> _sentence('{"error": {"message": "no such model", "code": 404}}')
    'no such model'
    >>> _sentence('{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}')
    'body.seed: Extra inputs are not permitted'
    >>> _sentence("<html><head><title>502 Bad Gateway</title></head></html>")
    '502 Bad Gateway'
    """
    if isinstance(body, str):
        inner = _parsed(body)
        if inner is not None:
            return _sentence(inner) or body
        if body.lstrip().startswith("<"):
            title = _TITLE.search(body)
            return unescape(_TAG.sub(" ", title[1] if title else body)).strip() or body
        return body
    if isinstance(body, list):
        return "; ".join(filter(None, (_sentence(one) for one in body[:3])))
    if not isinstance(body, dict):
        return ""
    for name in ("error", "message", "detail", "msg", "errors", "error_description", "reason", "title"):
        if said := _sentence(body.get(name)):
            place = ".".join(map(str, body["loc"])) if isinstance(body.get("loc"), list) else ""
            # A provider behind a provider: what the first one says is "Provider returned error".
            raw = _sentence(body["metadata"].get("raw")) if isinstance(body.get("metadata"), dict) else ""
            return (f"{place}: " if place else "") + said + (f" ({raw})" if raw else "")
    return ""


def _facts(body: Any) -> str:
    """Gather the names and codes that stand beside an error's sentence."""
    body = (_parsed(body) or {}) if isinstance(body, str) else body
    if isinstance(body, list):
        return " ".join(_facts(one) for one in body[:3])
    if not isinstance(body, dict):
        return ""
    own = [str(body[name]) for name in ("param", "code", "type", "status", "error_type") if body.get(name)]
    return " ".join([*own, *(_facts(body.get(name)) for name in ("error", "detail", "message"))]).strip()


def _parsed(text: str) -> Any:
    """Read JSON objects and lists; None for any other text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None
