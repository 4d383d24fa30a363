"""One request to a model's server: what goes out, what came back, whose fault it is and what helps."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from typing import Any, Final, TypeVar

import httpx2

from trsr.config.summary import Endpoint
from trsr.llm.pacing import Fault, Trouble, read_wait
from trsr.prompts.item_text import neutralise

T = TypeVar("T")

# Servers without keys ignore it; others say that it is missing.
_NO_KEY: Final = "no-key"
_SHOWN: Final = 300
_BUSY: Final = (429, 502, 503, 504)
_PASSING: Final = (408, 409, 425)
_PROMPT: Final = (400, 413, 422)
_TIMED_OUT: Final = (408, 504, 524)
"""A gateway gave up waiting: the server behind it may have done the work."""
_NOT_THERE: Final = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_NO_API: Final = ("<", "data:", "event:", ":")
"""How web pages and streams of events begin."""


def words(*patterns: str) -> re.Pattern[str]:
    """Make one pattern of several, whatever the case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


# What providers write where they refuse something, in their own words.
_KEYS: Final = words(
    r"\b(?:sk|gsk|hf|xai|r8|nvapi|pplx|AIza)[-_][\w*.-]{2,}",
    r"\bAIza[\w*-]{8,}",
    r"(?<=Bearer )\S+",
    r"(?<=api key provided: )[^\s.,]+",
)
CONTEXT: Final = words(
    r"context (?:length|size|window)",
    r"(?:prompt|input|request|message)s? (?:is|are)? ?too (?:long|large)",
    r"too many (?:input )?tokens",
    r"must have less than \d+ tokens",
    r"reduce the length",
)
_NO_MODEL: Final = words(r"\bmodel\b.{0,80}(?:not found|not exist)", r"unknown model", r"model_not_found")
_NO_QUOTA: Final = words(
    r"insufficient[_ ](?:quota|credits?|balance|funds)", r"balance is too low", r"billing_(?:hard|not)"
)
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that is an error: its status, the server's own sentence, and all names and codes beside it."""

    status: int
    said: str
    facts: str
    headers: Mapping[str, str]
    redirected_to: str = ""
    may_be_charged: bool = False

    @property
    def whole(self) -> str:
        """Sentence, names and codes."""
        return f"{self.said} {self.facts}"


class Exchange:
    """Posts to a server and turns whatever happens into what was read, or a `Trouble`; it raises nothing.

    The server's key is read from the environment and taken out of everything that a reply says. `where` is
    server and model, as messages name them; `reply` is what a reply should be, `shorter` and `wording` say
    what helps where the server finds a prompt too long, or a request wrong.
    """

    def __init__(self, config: Endpoint, *, reply: str, shorter: str, wording: str) -> None:
        self._config = config
        self._key = os.environ.get(config.api_key_env) or _NO_KEY
        self._reply, self._shorter, self._wording = reply, shorter, wording
        self._answered: set[str] = set()
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

    async def post(
        self, client: httpx2.AsyncClient, url: str, body: Mapping[str, Any], read: Callable[[Any], T]
    ) -> T | Trouble | Refusal:
        """Send one request and read its reply, within the time-out for both.

        `read` is given the reply's JSON; what it raises means that the reply is of another shape.
        """
        try:
            async with asyncio.timeout(self._config.timeout_s):
                reply = await client.post(url, json=body)
                return self._read_as(url, reply.text, read) if reply.is_success else self._refusal(reply)
        except (TimeoutError, httpx2.HTTPError) as error:
            return self._lost(error)
        except (httpx2.InvalidURL, UnicodeError) as error:
            said = self._conceal(str(error))
            return Trouble(Fault.TRY, f"{self.where}: {said}; is it an OpenAI-compatible server?")

    def _read_as(self, url: str, text: str, read: Callable[[Any], T]) -> T | Trouble:
        try:
            found = read(json.loads(text))
            if not isinstance(found, Refusal | Trouble):
                self._answered.add(url)
            return found
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            said = f"{self.where}: {self._describe(text)}"
            # A page or a stream as the very first reply will be the second one too.
            is_elsewhere = url not in self._answered and text.lstrip().startswith(_NO_API)
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
                f"the reply is no {self._reply} but a web page: {shown!r}; check that base_url ends in the "
                "API's root, such as /v1, and that no sign-in page or proxy stands before the server"
            )
        if start.startswith(_NO_API):
            return (
                f"the reply is no {self._reply} but a stream, which was not asked for: {shown!r}; see the "
                "settings of the server or of what stands before it"
            )
        return (
            f"the reply is no {self._reply}: {shown!r}; check that base_url ends in the API's root, such "
            "as /v1"
        )

    def error_in_body(self, body: Mapping[str, Any]) -> Refusal:
        """Read an error that came with the status "OK"."""
        error = body["error"]
        code = str(error.get("code") if isinstance(error, dict) else body.get("code"))
        status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 200
        return Refusal(status, self._conceal(_sentence(error)), _facts(error), {}, may_be_charged=True)

    def _refusal(self, response: httpx2.Response) -> Refusal:
        return Refusal(
            status=response.status_code,
            said=self._conceal(_sentence(response.text)) or "no word",
            facts=_facts(response.text),
            headers=response.headers,
            redirected_to=str(response.url) if response.history else "",
            may_be_charged=response.status_code in _TIMED_OUT,
        )

    def trouble(self, refusal: Refusal) -> Trouble:
        """Say whose fault a refusal is, and what helps."""
        status, fault = refusal.status, Fault.TRY
        if CONTEXT.search(refusal.whole):
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
                f"{self._config.setting}.timeout_s or lower {self._config.setting}.concurrency"
            )
        else:
            said = f"{self.where}: the connection was lost ({reason}); see the server's log"
        return Trouble(Fault.TRY, said, may_be_charged=True)

    def _next_step(self, refusal: Refusal) -> str:
        status, said, root = refusal.status, refusal.whole, self._config.base_url.rstrip("/")
        if refusal.redirected_to:
            target = refusal.redirected_to.removesuffix("/completions").removesuffix("/chat")
            return f"base_url leads elsewhere: set it to {target}"
        if CONTEXT.search(said):
            return (
                f"the prompt is too long for the server: raise its context length, or lower {self._shorter}"
            )
        if _is_out_of_quota(refusal):
            return "the account's quota is used up: add to it and run again, what was answered is stored"
        if _NO_MODEL.search(said):
            return (
                f"check {self._config.setting}.model: {root}/models lists what the server has; load or pull "
                "the model there first"
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
                f"check {self._config.setting}.model, and that base_url ends in the API's root, such as "
                f"/v1{wanted}"
            )
        if status in _PROMPT:
            return f"{self._wording}; if the prompt is too long, lower {self._shorter}"
        if status == 429:
            return (
                f"the server is busy or the quota is used up; lower {self._config.setting}.concurrency, set "
                f"{self._config.setting}.requests_per_minute or tokens_per_minute, or wait"
            )
        return "see the server's log; what was answered is stored, so run again when it is well"

    def without_key(self, text: str) -> str:
        """Take the server's key out of a text."""
        return text.replace(self._key, "***") if self._key != _NO_KEY else text

    def _conceal(self, said: str) -> str:
        """Make what a server said fit to be shown: one short line, without anything that looks like a key."""
        line = neutralise(_KEYS.sub("***", self.without_key(said)))
        return line.rstrip(". ") if len(line) <= _SHOWN else f"{line[:_SHOWN]} ..."


def _is_out_of_quota(refusal: Refusal) -> bool:
    """Tell an account without money, where waiting doesn't help, from a limit a minute."""
    return refusal.status == 402 or _NO_QUOTA.search(refusal.whole) is not None


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
