"""Who comes in, with what, and how long it may take: keys, limits, counts, before anything is read."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trsr.errors import ConfigError
from trsr.prompts.item_text import HALF_CHARACTER
from trsr.serve.engine import Limits

Role = Literal["read", "full"]
"""What a key is good for: to rank and to look, or also to append, edit and delete."""

OPEN: Final = frozenset(("/health", "/ready"))
"""Paths for which nobody needs a key: they say whether the service lives, and nothing else."""
COOKIE: Final = "trsr_key"
"""Holds the key of a person who has come in by the page; the page alone takes it."""

_OPEN_PAGE: Final = re.compile(r"/page/(login|static/.*)")
_PAGE: Final = re.compile(r"/|/page(/.*)?")
_FORM: Final = "application/x-www-form-urlencoded"
_OF_USERS: Final = re.compile(r"/v1/(events|profile(/.*)?|users(/.*)?)|/page/change/.*")
_ESCAPED_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_KEY_BYTES: Final = 32


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address.

    Examples
    --------
    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "127.0.0.1.example")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_page(path: str) -> bool:
    """Say whether a path is the page's, which people look at, and not the API's."""
    return bool(_PAGE.fullmatch(path))


def changes(method: str, path: str) -> bool:
    """Say whether a request changes what is known of users.

    Examples
    --------
    >>> changes("POST", "/v1/rank"), changes("GET", "/v1/profile"), changes("DELETE", "/v1/users")
    (False, False, True)
    """
    return method not in ("GET", "HEAD", "OPTIONS") and bool(_OF_USERS.fullmatch(path))


class Keys:
    """A file of keys, a line each: SHA-256, role, name. It is read again when it changes.

    A key is 32 random bytes, so that a plain hash of it tells nobody anything.

    Raises
    ------
    ConfigError
        When the file is missing, or a line is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._roles: dict[str, Role] = {}
        self._read()

    def role(self, key: str) -> Role | None:
        """Say what a key is good for; None for a key that isn't one."""
        self._read()
        hashed, found = _hashed(key), None
        for known, role in self._roles.items():
            if hmac.compare_digest(known, hashed):
                found = role
        return found

    def _read(self) -> None:
        try:
            status = self.path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            message = (
                f"{self.path}: no file of keys ({error}); make one with `trsr key NAME --keys {self.path}`"
            )
            raise ConfigError(message) from error
        roles: dict[str, Role] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            hashed, role, *_ = [*line.split(maxsplit=2), "", ""]
            if not re.fullmatch("[0-9a-f]{64}", hashed) or role not in get_args(Role):
                message = (
                    f"{self.path}, line {number}: must be a SHA-256, read or full, and a name; delete the "
                    "line and make a key with `trsr key`"
                )
                raise ConfigError(message)
            roles[hashed] = "full" if role == "full" else "read"
        self._roles, self._seen = roles, seen


def make_key(path: Path, name: str, role: Role) -> str:
    """Make a key and put its hash into the file; the key itself is kept nowhere."""
    key = f"trsr_{secrets.token_urlsafe(_KEY_BYTES)}"
    path.touch(mode=0o600, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{_hashed(key)} {role} {' '.join(name.split())}\n")
    return key


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


class Figures:
    """What the service counts, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "trsr_requests", "Requests, by path and status.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "trsr_request_seconds",
            "Seconds from a request's first byte to the answer's last.",
            ("path",),
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.under_way = Gauge("trsr_requests_under_way", "Requests under way.", registry=self.registry)
        self.batch = Histogram(
            "trsr_batch_requests",
            "Requests that shared a forward pass.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.tokens = Counter(
            "trsr_prompt_tokens", "Prompt tokens, by whether they were held from before.", ("held",),
            registry=self.registry,
        )  # fmt: skip
        self.events = Counter("trsr_events", "Events that were taken.", registry=self.registry)

    def watch(self, name: str, told: str, value: Callable[[], float]) -> None:
        """Ask for a value whenever somebody looks."""
        Gauge(name, told, registry=self.registry).set_function(value)


class Refusal(Exception):
    """Why a request isn't served; the form of what is answered is that of the API that was asked."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        retry_after_s: float | None = None,
        details: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s
        self.details = details


Render = Callable[[str, Refusal], Response]
"""Makes what is answered, by the path and the refusal."""


class Door:
    """The outermost layer of the service: it knows bytes, headers and paths, and no users.

    Parameters
    ----------
    app
        What is behind.
    keys
        None where everybody on this machine may come in: then requests must name it as their host, so that no
        page of somebody else's can reach it through a browser.
    render
        Makes what is answered to those who aren't let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        keys: Keys | None,
        figures: Figures,
        render: Render,
    ) -> None:
        self._app = app
        self._limits = limits
        self._keys = keys
        self._figures = figures
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._figures.under_way.track_inprogress():
            try:
                await self._serve(scope, receive, noting)
            finally:
                path = getattr(
                    scope.get("route"), "path", "none"
                )  # one that isn't there is not counted by name
                self._figures.requests.labels(path, str(status)).inc()
                self._figures.seconds.labels(path).observe(time.perf_counter() - began)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            self._let_in(scope, headers)
            body = await self._body(scope, headers, receive)
        except Refusal as refusal:
            await self._render(scope["path"], refusal)(scope, receive, send)
            return
        given = False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    def _let_in(self, scope: Scope, headers: Headers) -> None:
        method, path = scope["method"], scope["path"]
        if path in OPEN:
            return
        if is_page(path) and method not in ("GET", "HEAD"):
            _require_own_form(headers)
        scope["role"] = "full"
        if self._keys is None:
            host = headers.get("host", "").rpartition(":")[0] or headers.get("host", "")
            if not is_loopback(host.strip("[]")):
                raise Refusal(
                    403, "forbidden", f"host must be this machine where there are no keys, got {host!r}"
                )
            return
        if _OPEN_PAGE.fullmatch(path):
            return
        role = self._keys.role(_key(path, headers))
        if role is None:
            raise Refusal(401, "unauthorized", "a key is needed: the header `Authorization: Bearer KEY`")
        if role == "read" and changes(method, path):
            raise Refusal(
                403, "forbidden", "this key may read only; appending, editing and deleting need a full one"
            )
        scope["role"] = role

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        most = self._limits.body
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told) > most:
            raise Refusal(413, "too_large", f"a body may have {most:,} bytes, got {told[:20]}")
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise Refusal(413, "too_large", f"a body may have {most:,} bytes, got more")
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            took = self._limits.timeout_s
            raise Refusal(408, "timeout", f"the body didn't arrive within {took:g} seconds") from None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = _FORM if is_page(scope["path"]) else "application/json"
        if body and scope["method"] != "GET" and kind != wanted:
            raise Refusal(415, "media_type", f"the content type must be {wanted}, got {kind[:80]!r}")
        return _whole_characters(bytes(body))


def _key(path: str, headers: Headers) -> str:
    """Find the key: browsers send the cookie by themselves, so that it counts for the page alone."""
    word, _, key = headers.get("authorization", "").partition(" ")
    if word.lower() == "bearer":
        return key.strip()
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "") if is_page(path) else ""


def _require_own_form(headers: Headers) -> None:
    """Refuse a form that another site's page has sent through somebody's browser."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin", "")
    is_own = urlsplit(origin).netloc == headers.get("host") if site is None else site == "same-origin"
    if not is_own:
        raise Refusal(403, "forbidden", "a form of this page must be sent from this page; open it again")


def _whole_characters(body: bytes) -> bytes:
    """Replace halves of characters, which no text can be stored or tokenised with, as everywhere in TRSR."""
    if not _ESCAPED_HALF.search(body):
        return body
    try:
        return json.dumps(_mended(json.loads(body))).encode()
    except (ValueError, RecursionError):  # whoever parses it says what is wrong
        return body


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return HALF_CHARACTER.sub("\ufffd", value)
    if isinstance(value, list):
        return [*map(_mended, value)]
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return value
