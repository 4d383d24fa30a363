"""One request to an OpenAI-compatible server, and what its reply means."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, Final

import openai
from openai.types.chat import ChatCompletionMessageParam

from trsr.config.summary import EndpointWriter, Sampling
from trsr.models.generation import Chat, Completion
from trsr.models.schedule.retry_after import read_wait
from trsr.models.schedule.trouble import Fault, Trouble

# Servers without keys ignore it; the client refuses to start without one.
NO_KEY: Final = "no-key"
_SHOWN: Final = 300
_BUSY: Final = (429, 502, 503, 504)
_PASSING: Final = (408, 409, 425)
_PROMPT: Final = (400, 413, 422)


class Replies:
    """Asks a server once and turns whatever happens into an answer or a `Trouble`; it raises nothing.

    Parameters
    ----------
    config
        Server, model and time-outs.
    key
        The server's key; it is taken out of everything that a reply says.

    Attributes
    ----------
    where
        Server and model, as messages name them.
    """

    def __init__(self, config: EndpointWriter, key: str) -> None:
        self._config = config
        self._key = key
        self.where = f"{config.base_url}, model {config.model!r}"

    async def ask(self, client: openai.AsyncOpenAI, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        """Send one chat and read the reply, within the time-out for both."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": chat.user}]
        if chat.system:
            messages.insert(0, {"role": "system", "content": chat.system})
        try:
            async with asyncio.timeout(self._config.timeout_s):
                reply = await client.chat.completions.with_raw_response.create(
                    model=self._config.model,
                    messages=messages,
                    max_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=sampling.seed,
                )
                text = reply.text
        except openai.APIStatusError as error:
            return self._refused(error.status_code, error.message, error.response.headers)
        except (TimeoutError, openai.APITimeoutError):
            return Trouble(
                Fault.TRY,
                f"{self.where}: no answer within {self._config.timeout_s:g} s; raise "
                "summary.writer.timeout_s or lower summary.writer.concurrency",
            )
        except openai.APIConnectionError as error:
            return self._lost(error)
        except (openai.OpenAIError, UnicodeError) as error:
            said = self._conceal(str(error))
            return Trouble(Fault.TRY, f"{self.where}: {said}; is it an OpenAI-compatible server?")
        return self._read(text)

    def _read(self, text: str) -> Completion | Trouble:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            content = choice["message"].get("content") or ""
            usage = body.get("usage") or {}
            return Completion(
                text=self._conceal(content.strip(), shown=len(content)),
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
                finish_reason=str(choice.get("finish_reason") or "stop"),
            )
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return Trouble(
                Fault.TRY,
                f"{self.where}: the reply is no chat completion: {self._conceal(text)!r}; check that "
                "base_url ends in the API's root, such as /v1",
            )

    def _refused(self, status: int, said: str, headers: Mapping[str, str]) -> Trouble:
        fault = Fault.SETTINGS
        if status in _BUSY:
            fault = Fault.SERVER
        elif status in _PASSING or status >= 500:
            fault = Fault.TRY
        elif status in _PROMPT:
            fault = Fault.PROMPT
        message = f"{self.where}: status {status}: {self._conceal(said)}; {self._next_step(status)}"
        return Trouble(fault, message, read_wait(headers))

    def _lost(self, error: openai.APIConnectionError) -> Trouble:
        """Tell a server that is not there from a reply that was lost: the cause's name says it."""
        cause = error.__cause__ or error
        reason = self._conceal(str(cause) or type(cause).__name__)
        if type(cause).__name__ in ("ConnectError", "ConnectTimeout"):
            said = f"{self.where}: can't connect ({reason}); check base_url and that the server runs"
            return Trouble(Fault.SERVER, said)
        return Trouble(Fault.TRY, f"{self.where}: the connection was lost ({reason}); see the server's log")

    def _next_step(self, status: int) -> str:
        variable = self._config.api_key_env
        if status in (401, 403):
            state = "holds a key that it refuses" if os.environ.get(variable) else "is not set"
            return f"the environment variable {variable} {state}; put the server's key there"
        if status == 404:
            return "check summary.writer.model, and that base_url ends in the API's root, such as /v1"
        if status in _PROMPT:
            return "if the prompt is too long, lower items.max_tokens, block_size or max_new_tokens"
        if status == 429:
            return (
                "the server is busy or the quota is used up; lower summary.writer.concurrency, set "
                "summary.writer.requests_per_minute or tokens_per_minute, or wait"
            )
        return "see the server's log; what was answered is stored, so run again when it is well"

    def _conceal(self, text: Any, shown: int = _SHOWN) -> str:
        """Take the key out of what the server said; some repeat it."""
        whole = str(text)
        whole = whole.replace(self._key, "***") if self._key != NO_KEY else whole
        return whole if len(whole) <= shown else f"{whole[:shown]} ..."
