"""Answers by an OpenAI-compatible server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Final

import openai
from openai.types.chat import ChatCompletionMessageParam

from trsr.config.summary import EndpointWriter, Sampling
from trsr.errors import WriterError
from trsr.models.generation import Chat, Completion

# Servers without keys ignore it; the client refuses to start without one.
_NO_KEY: Final = "no-key"
_SHOWN_BODY: Final = 300


class EndpointGenerator:
    """Sends chats to a server, several at once, and yields answers as they come.

    Lost connections, time-outs and answers 408, 409, 429 and 5xx are tried again
    by the client with exponential back-off, or after as long as the server asks for
    (``Retry-After``). The key is read from the environment when the generator is
    made and stands in no message.

    Parameters
    ----------
    config
        Server, model, concurrency and patience.

    Attributes
    ----------
    identity
        The model's name at the server, and the revision where one is given. The
        server's address is no part of it: a moved server is the same model.
    """

    def __init__(self, config: EndpointWriter) -> None:
        self._config = config
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(config.api_key_env) or _NO_KEY,
            timeout=config.timeout_s,
            max_retries=config.max_retries,
        )
        self._where = f"{config.base_url}, model {config.model!r}"
        self.identity = f"{config.model}@{config.revision}" if config.revision else config.model

    def generate(self, chats: Sequence[Chat], sampling: Sampling) -> Iterator[tuple[int, Completion]]:
        """Yield ``(place, completion)`` in the order in which the server finishes.

        After the first failure nothing new is sent; answers under way are waited for
        and yielded, then the failure is raised.

        Raises
        ------
        WriterError
            Naming server, model, status and the next step.
        """
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="trsr-endpoint")
        try:
            asked = {pool.submit(self._ask, chat, sampling): place for place, chat in enumerate(chats)}
            failure: WriterError | None = None
            for future in as_completed(asked):
                if future.cancelled():
                    continue
                error = future.exception()
                if error is None:
                    yield asked[future], future.result()
                    continue
                _cancel(asked)
                if not isinstance(error, openai.OpenAIError | WriterError):
                    raise error
                failure = failure or (error if isinstance(error, WriterError) else self._explain(error))
            if failure is not None:
                raise failure
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, chat: Chat, sampling: Sampling) -> Completion:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": chat.user}]
        if chat.system:
            messages.insert(0, {"role": "system", "content": chat.system})
        answer = self._client.chat.completions.create(
            model=self._config.model,
            messages=messages,
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )
        if not getattr(answer, "choices", None):  # the client lets any JSON, and any text, pass as an answer
            message = (
                f"{self._where}: the reply is no chat completion: {str(answer)[:_SHOWN_BODY]!r}; check that "
                "base_url ends in the API's root, such as /v1"
            )
            raise WriterError(message)
        choice = answer.choices[0]
        return Completion(
            text=(choice.message.content or "").strip(),
            prompt_tokens=answer.usage.prompt_tokens if answer.usage else 0,
            completion_tokens=answer.usage.completion_tokens if answer.usage else 0,
            finish_reason=choice.finish_reason or "stop",
        )

    def _explain(self, error: openai.OpenAIError) -> WriterError:
        where = self._where
        if isinstance(error, openai.APIStatusError):
            said = self._conceal(error.message)
            step = self._next_step(error.status_code)
            retryable = error.status_code in (408, 409, 429) or error.status_code >= 500
            return WriterError(f"{where}: status {error.status_code}: {said}; {step}", retryable=retryable)
        if isinstance(error, openai.APITimeoutError):
            message = (
                f"{where}: no answer within {self._config.timeout_s:g} s, {self._config.max_retries + 1} "
                "times; raise summary.writer.timeout_s or lower summary.writer.concurrency"
            )
            return WriterError(message, retryable=True)
        if isinstance(error, openai.APIConnectionError):
            reason = self._conceal(str(error.__cause__ or error))
            message = f"{where}: can't connect ({reason}); check base_url and that the server runs"
            return WriterError(message, retryable=True)
        return WriterError(f"{where}: {self._conceal(str(error))}; is it an OpenAI-compatible server?")

    def _next_step(self, status: int) -> str:
        variable = self._config.api_key_env
        if status in (401, 403):
            state = "holds a key that it refuses" if os.environ.get(variable) else "is not set"
            return f"the environment variable {variable} {state}; put the server's key there"
        if status == 404:
            return "check summary.writer.model, and that base_url ends in the API's root, such as /v1"
        if status in (400, 413, 422):
            return "if the prompt is too long, lower items.max_tokens, block_size or max_new_tokens"
        if status == 429:
            return "the server is busy or the quota is used up; lower summary.writer.concurrency or wait"
        return "see the server's log; what was answered is stored, so run again when it is well"

    def _conceal(self, text: str) -> str:
        """Take the key out of what the server said; some repeat it."""
        key = self._client.api_key
        text = text.replace(key, "***") if key != _NO_KEY else text
        return text if len(text) <= _SHOWN_BODY else f"{text[:_SHOWN_BODY]} ..."


def _cancel(asked: dict[Future[Completion], int]) -> None:
    for future in asked:
        future.cancel()
