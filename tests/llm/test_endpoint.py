"""What the contract can't show: failures, retries, keys; a real HTTP server plays them."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from asking import completions, outcome, outcomes
from trsr.config import load
from trsr.config.summary import EndpointWriter, Limits, Sampling
from trsr.errors import BudgetError, ConfigError, StoreError, WriterError
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import Answering, Chat, Completion, Unanswered
from trsr.records import Usage
from trsr.summarize.cost import Budget

KEY = "sk-very-secret-0123456789"
Reply = tuple[int, dict[str, str], Any]
"""Status, headers and body: bytes as they are, anything else as JSON."""


def ok(text: str | None = "Likes tea.", **more: Any) -> Reply:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return (
        200,
        {},
        {"id": "1", "object": "x", "created": 0, "model": "m", "choices": [choice], "usage": usage} | more,
    )


def failing(status: int, said: str = "no", **headers: str) -> Reply:
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        {"error": {"message": said}},
    )


class Server:
    """Replies as `script` says: number of the request, from 1, and its body -> reply."""

    def __init__(self) -> None:
        self.url = ""
        self.script: Callable[[int, dict[str, Any]], Reply] = lambda number, body: ok()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.times: list[float] = []
        self.lock = threading.Lock()

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            self.bodies.append(body)
            self.times.append(time.monotonic())
            self.keys.add(handler.headers["Authorization"])
            number = len(self.bodies)
        status, headers, answer = self.script(number, body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        handler.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            state.reply(self)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def connect(server: Server, payer: Budget | None = None, **settings: Any) -> EndpointGenerator:
    defaults = {"max_retries": 0, "concurrency": 1, "api_key_env": "TRSR_TEST_KEY", "timeout_s": 60}
    url = server.url
    writer = EndpointWriter(kind="endpoint", base_url=url, model="m", **defaults | settings)
    return EndpointGenerator(writer, payer)


def drain(
    generator: EndpointGenerator, count: int = 1, sampling: Sampling | None = None
) -> tuple[dict[int, Completion], WriterError | Unanswered | None]:
    """The answers, and the error that ended all calls or else a call's failure."""
    found = outcomes(generator, [Chat(f"chat {n}") for n in range(count)], sampling or Sampling())
    answers = {place: each for place, each in enumerate(found) if isinstance(each, Completion)}
    errors = [each for each in found if isinstance(each, WriterError | Unanswered)]
    assert len(answers) + len(errors) == count
    return answers, next((each for each in errors if isinstance(each, WriterError)), (*errors, None)[0])


def test_sends_the_chat_and_the_sampling(server: Server) -> None:
    sampling = Sampling(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4)
    answers = completions(connect(server), [Chat("Tea?", system="Be brief.")], sampling)
    assert answers == [Completion("Likes tea.", 7, 3, "stop")]
    [body] = server.bodies
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tea?"},
    ]
    sent = {name: body[name] for name in ("model", "max_tokens", "temperature", "top_p", "seed")}
    assert sent == {"model": "m", "max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 4}


def test_an_answer_without_text_is_an_empty_completion(server: Server) -> None:
    server.script = lambda number, body: ok(None, usage=None)
    answers, _ = drain(connect(server))
    assert answers == {0: Completion("", None, None, "stop")}


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_passing_failures_are_tried_again(server: Server, status: int) -> None:
    server.script = lambda number, body: failing(status, retry_after_ms="1") if number <= 2 else ok()
    answers, error = drain(connect(server, max_retries=2))
    assert (len(answers), error, len(server.bodies)) == (1, None, 3)


def test_waits_as_long_as_the_server_asks(server: Server) -> None:
    server.script = lambda number, body: failing(429, Retry_After="1") if number == 1 else ok()
    _, error = drain(connect(server, max_retries=1))
    first, second = server.times
    assert error is None
    assert second - first >= 1.0  # a wait that nobody asks for is half a second at most


def test_a_slow_answer_is_given_up_and_named(server: Server) -> None:
    given_up = threading.Event()
    server.script = lambda number, body: (given_up.wait(), ok())[1]
    answers, error = drain(connect(server, timeout_s=0.2))
    given_up.set()
    assert answers == {}
    assert isinstance(error, Unanswered)
    assert "no answer within 0.2 s; raise summary.writer.timeout_s" in error.reason


@pytest.mark.parametrize(
    ("status", "step", "ends_all", "retryable"),
    [
        (401, "TRSR_TEST_KEY is not set; put the server's key there", True, False),
        (403, "TRSR_TEST_KEY is not set", True, False),
        (404, "check summary.writer.model", True, False),
        (400, "lower items.max_tokens", False, False),
        (429, "lower summary.writer.concurrency", True, True),
        (500, "see the server's log", False, False),
    ],
)
def test_a_refusal_names_server_model_status_and_next_step(
    server: Server, status: int, step: str, ends_all: bool, retryable: bool
) -> None:
    server.script = lambda number, body: failing(status, "went wrong")
    _, error = drain(connect(server))
    assert isinstance(error, WriterError if ends_all else Unanswered)
    said = error.reason if isinstance(error, Unanswered) else str(error)
    if isinstance(error, WriterError):
        assert error.retryable is retryable
    for fact in (f"{server.url}, model 'm': status {status}", "went wrong", step):
        assert fact in said
    assert len(server.bodies) == 1


def test_one_refused_prompt_fails_alone(server: Server) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        return failing(400, "too long") if body["messages"][0]["content"] == "chat 0" else ok()

    server.script = script
    answers, error = drain(connect(server), count=4)
    assert sorted(answers) == [1, 2, 3]
    assert isinstance(error, Unanswered)


def test_refusals_of_everything_end_the_run_soon(server: Server) -> None:
    server.script = lambda number, body: failing(400, "unknown parameter")
    _, error = drain(connect(server), count=50)
    assert isinstance(error, WriterError)
    assert "5 calls in a row ended without an answer" in str(error)
    assert len(server.bodies) == 5


def test_a_wait_longer_than_patience_ends_the_run_with_the_time(server: Server) -> None:
    server.script = lambda number, body: failing(429, "quota", Retry_After="86400")
    _, error = drain(connect(server, max_retries=5))
    assert isinstance(error, WriterError)
    assert error.retryable
    assert "asks to wait 86,400 s, longer than summary.writer.patience_s 600" in str(error)


def test_a_server_that_stays_away_is_given_up_after_the_patience(server: Server) -> None:
    server.script = lambda number, body: ok() if number <= 2 else failing(503, "away")
    answers, error = drain(connect(server, patience_s=1.5, concurrency=2), count=30)
    assert len(answers) == 2  # which two, the order of arrival decides
    assert isinstance(error, WriterError)
    assert error.retryable
    assert "no answer for" in str(error)
    # Probes, not a storm: a second and a half holds few of them.
    assert len(server.bodies) <= 20


def test_a_server_that_cuts_prompts_is_caught_at_the_first_call(server: Server) -> None:
    server.script = lambda number, body: ok(usage={"prompt_tokens": 512, "completion_tokens": 3})
    generator = connect(server)
    chat = Chat("A product that one shopper bought. " * 200)
    with pytest.raises(
        WriterError, match=r"counts 512 tokens in a prompt of about 1,\d00, so it cuts prompts"
    ):
        completions(generator, [chat], Sampling())
    assert len(server.bodies) == 1
    allowed = connect(server, check_prompt_tokens=False)
    assert len(completions(allowed, [chat], Sampling())) == 1


def test_requests_a_minute_are_kept(server: Server) -> None:
    started = time.monotonic()
    answers, _ = drain(connect(server, requests_per_minute=240, concurrency=8), count=9)
    assert len(answers) == 9
    # One burst of a second's worth, four, and then a request every quarter of a second.
    earliest = [0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert all(at - started >= due - 0.01 for at, due in zip(sorted(server.times), earliest, strict=True))


def test_tokens_a_minute_are_kept_and_corrected_by_usage(server: Server) -> None:
    server.script = lambda number, body: ok(usage={"prompt_tokens": 2, "completion_tokens": 3})
    # Each call is estimated at a million tokens, hours of the limit together; corrected they are 5 each.
    generator = connect(server, tokens_per_minute=6000, concurrency=1)
    answers, _ = drain(generator, count=8, sampling=Sampling(max_new_tokens=1_000_000))
    assert len(answers) == 8


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_the_key_is_sent_and_shown_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    monkeypatch.setenv("TRSR_TEST_KEY", KEY)
    caplog.set_level(0)
    said = f"Incorrect key: {KEY}"
    server.script = lambda number, body: ok(said) if status == 200 else failing(status, said)
    generator = connect(server)
    answers, error = drain(generator)
    assert server.keys == {f"Bearer {KEY}"}
    assert (error is None) == (status == 200)
    shown = [str(error), repr(error), repr(generator), generator.identity, caplog.text, repr(answers)]
    while isinstance(error, BaseException):  # whoever logs the traceback sees the causes too
        shown += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    assert [text for text in shown if KEY in text] == []
    if status == 401:
        assert "TRSR_TEST_KEY holds a key that it refuses" in shown[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", f"http://user:{KEY}@localhost/v1"),
        ("base_url", f"http://localhost/v1?api-key={KEY}"),
        ("api_key_env", KEY),
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(field: str, value: str) -> None:
    writer = {"kind": "endpoint", "base_url": "http://localhost/v1", "model": "m"} | {field: value}
    with pytest.raises(ConfigError, match=field) as caught:
        load(overrides={"summary.writer": writer})
    assert KEY not in str(caught.value)


def test_no_server_says_so(server: Server) -> None:
    generator = EndpointGenerator(
        EndpointWriter(kind="endpoint", base_url="http://127.0.0.1:9/v1", model="m", max_retries=0)
    )
    _, error = drain(generator)
    assert isinstance(error, WriterError)
    assert error.retryable
    assert "http://127.0.0.1:9/v1, model 'm': can't connect" in str(error)


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_something_else_than_an_api_says_so(server: Server, kind: str) -> None:
    server.script = lambda number, body: (200, {"Content-Type": kind}, {"hello": "world"})
    answers, error = drain(connect(server), count=3)
    assert answers == {}
    assert isinstance(error, Unanswered)
    assert "the reply is no chat completion" in error.reason
    assert "hello" in error.reason


def test_after_a_failure_answers_under_way_still_come_and_nothing_new_is_sent(server: Server) -> None:
    generator = connect(server, concurrency=2)

    def script(number: int, body: dict[str, Any]) -> Reply:
        if body["messages"][0]["content"] == "chat 1":
            return failing(401)
        while not generator.pace.failed_tries:  # until the client has seen the failure
            time.sleep(0.01)
        return ok()

    server.script = script
    answers, error = drain(generator, count=20)
    assert error is not None
    assert "status 401" in str(error)
    assert 0 in answers
    assert len(answers) == len(server.bodies) - 1 <= 3


def test_requests_run_at_once_up_to_the_limit(server: Server) -> None:
    under_way, most = 0, 0
    lock, three = threading.Lock(), threading.Barrier(3)

    def script(number: int, body: dict[str, Any]) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        three.wait()  # nobody is answered before three are under way
        with lock:
            under_way -= 1
        return ok()

    server.script = script
    answers, _ = drain(connect(server, concurrency=3), count=9)
    assert sorted(answers) == list(range(9))
    assert most == 3


def test_identity_is_model_and_revision(server: Server) -> None:
    assert connect(server).identity == "m"
    assert connect(server, revision="v2").identity == "m@v2"


USAGES = [
    ({"prompt_tokens": 70, "completion_tokens": 3, "total_tokens": 73}, 70, 3),
    (None, None, None),
    ({}, None, None),
    ("many", None, None),
    ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, None, None),
    ({"total_tokens": 80}, None, None),
    ({"prompt_tokens": 70}, 70, None),
    ({"completion_tokens": 3}, None, 3),
    ({"prompt_tokens": 70, "total_tokens": 75}, 70, 5),
    ({"prompt_tokens": -70, "completion_tokens": True}, None, None),
    ({"prompt_tokens": 70.5, "completion_tokens": 10**12}, None, None),
    ({"prompt_tokens": "70", "completion_tokens": "3"}, 70, 3),
    # Thoughts that a provider leaves out of the completion and charges.
    ({"prompt_tokens": 70, "completion_tokens": 3, "total_tokens": 373}, 70, 303),
    # Beyond the limit of tokens: a server that doesn't keep it charges what it made.
    ({"prompt_tokens": 70, "completion_tokens": 9000}, 70, 9000),
    ({"prompt_tokens": 20, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 50}}, 70, 3),
    ({"input_tokens": 70, "output_tokens": 3}, 70, 3),
]


@pytest.mark.parametrize(("usage", "prompt", "completion"), USAGES)
def test_what_a_server_does_not_report_is_unknown_and_never_0(
    server: Server, usage: Any, prompt: int | None, completion: int | None
) -> None:
    server.script = lambda number, body: ok(usage=usage)
    answers, _ = drain(connect(server))
    assert answers == {0: Completion("Likes tea.", prompt, completion, "stop")}


def test_a_count_that_leaves_the_cache_out_is_not_believed_and_not_taken_for_a_cut(server: Server) -> None:
    server.script = lambda number, body: ok(usage={"prompt_tokens": 3, "completion_tokens": 4})
    long = Chat("A product that one shopper bought. " * 200)
    [answer] = completions(connect(server), [long], Sampling())
    assert answer == Completion("Likes tea.", None, 4, "stop")


def test_a_count_that_shows_a_cut_is_no_price_where_cuts_are_allowed(server: Server) -> None:
    server.script = lambda number, body: ok(usage={"prompt_tokens": 512, "completion_tokens": 4})
    long = Chat("A product that one shopper bought. " * 200)
    [answer] = completions(connect(server, check_prompt_tokens=False), [long], Sampling())
    assert answer == Completion("Likes tea.", None, 4, "stop")


UNREADABLE: dict[str, Any] = {
    "page": b"<html><head><title>Sign in</title></head><body>Please</body></html>",
    "stream": b'data: {"choices":[{"delta":{"content":"Likes"}}]}\n\ndata: [DONE]\n\n',
    "half": b'{"choices": [{"mess',
    "empty": b"",
    "no choices": {"choices": []},
    "error": {"error": {"message": "Provider returned error", "metadata": {"raw": "upstream is down"}}},
    "error in the choice": {"choices": [{"error": {"message": "upstream is down"}, "message": {}}]},
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_paid_reply_that_can_not_be_read_counts_at_its_most_at_every_try(server: Server, kind: str) -> None:
    server.script = lambda number, body: (200, {}, UNREADABLE[kind]) if number > 1 else ok()
    budget = Budget()
    generator = connect(server, budget, max_retries=1, concurrency=1)
    drain(generator)
    _, failure = drain(generator)
    assert isinstance(failure, Unanswered)
    assert failure.may_be_charged
    words = {"page": "Sign in", "stream": "stream", "empty": "is empty"}
    assert (words.get(kind) or ("upstream is down" if "error" in kind else "no chat")) in failure.reason
    assert len(server.bodies) == 3
    assert budget.spent == Usage(2, 0, 4, 300, calls_unreported=2)  # "chat 0" is estimated at two tokens


@pytest.mark.parametrize("kind", ["page", "stream"])
def test_a_first_reply_that_comes_from_no_api_ends_the_run_at_once(server: Server, kind: str) -> None:
    server.script = lambda number, body: (200, {}, UNREADABLE[kind])
    budget = Budget()
    _, error = drain(connect(server, budget, max_retries=5), count=9)
    assert isinstance(error, WriterError)
    assert (len(server.bodies), budget.spent.calls) == (1, 1)


def test_a_try_that_timed_out_counts_and_the_cap_ends_the_tries(server: Server) -> None:
    answered = threading.Event()
    server.script = lambda number, body: (answered.wait(5), ok())[1]
    budget = Budget(Limits(max_calls=2))
    most = Usage(1, 0, 2, 150)
    assert budget.allow(most)
    with pytest.raises(BudgetError, match=r"2 calls told no whole usage and count as reserved"):
        completions(connect(server, budget, timeout_s=0.1, max_retries=9), [Chat("chat 0")], Sampling())
    answered.set()
    assert len(server.bodies) == 2
    assert budget.spent.calls == 2


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_what_a_server_refuses_costs_nothing(server: Server, status: int) -> None:
    server.script = lambda number, body: failing(status)
    budget = Budget()
    drain(connect(server, budget))
    assert budget.spent == Usage()


def test_calls_that_are_let_go_under_way_count(server: Server) -> None:
    going_on = threading.Event()
    server.script = lambda number, body: ok() if number == 1 else (going_on.wait(5), ok())[1]
    budget = Budget()

    async def ask_two() -> None:
        async with connect(server, budget, concurrency=2).session(Sampling()) as answer:
            calls = [asyncio.create_task(outcome(answer, Chat(f"chat {n}"))) for n in range(2)]
            _, under_way = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while len(server.bodies) < 2:
                await asyncio.sleep(0.005)
            for call in under_way:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    asyncio.run(ask_two())
    going_on.set()
    assert budget.spent == Usage(1, 0, 2, 150, calls_unreported=1)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "Likes "}, {"type": "text", "text": "tea."}]}, "Likes tea."),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
                    {"type": "text", "text": "Likes tea."},
                ]
            },
            "<think>Hm.</think>Likes tea.",
        ),
        ({"content": "Likes tea.", "reasoning_content": "Hm."}, "Likes tea."),
        ({"content": None, "reasoning_content": "Hm."}, "<think>Hm."),
        ({"content": "", "reasoning": "Hm."}, "<think>Hm."),
        ({"content": None, "refusal": "I can't."}, "I can't."),
        ({"content": None}, ""),
    ],
)
def test_the_text_of_an_answer_is_read_in_every_shape(
    server: Server, message: dict[str, Any], text: str
) -> None:
    choices = [{"index": 0, "message": message, "finish_reason": "max_tokens"}]
    server.script = lambda number, body: ok(choices=choices)
    [answer] = drain(connect(server))[0].values()
    assert (answer.text, answer.finish_reason) == (text, "length")


def refuse(fits: Callable[[dict[str, Any]], bool], status: int, said: Any) -> Callable[..., Reply]:
    return lambda number, body: ok() if fits(body) else (status, {}, said)


PYDANTIC = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}
REFUSALS: dict[str, tuple[Callable[[dict[str, Any]], bool], int, Any, str]] = {
    "limit": (
        lambda body: "max_tokens" not in body and body["max_completion_tokens"] == 150,
        400,
        {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}},
        "max_tokens_name: max_completion_tokens",
    ),
    "old limit": (
        lambda body: "max_completion_tokens" not in body and body["max_tokens"] == 150,
        422,
        {"message": "property max_completion_tokens is unsupported"},
        "max_tokens_name: max_tokens",
    ),
    "value": (
        lambda body: "temperature" not in body and "top_p" in body,
        400,
        {"error": {"message": "Only 1 is supported.", "code": "unsupported_value", "param": "temperature"}},
        "omit: [temperature]",
    ),
    "neutral value": (
        lambda body: "top_p" not in body and "temperature" in body,
        422,
        {"error": "Input validation error: `top_p` must be > 0.0 and < 1.0", "error_type": "validation"},
        "omit: [top_p]",
    ),
    "conflict": (
        lambda body: ("temperature" in body) != ("top_p" in body),
        400,
        {"error": {"message": "`temperature` and `top_p` cannot both be specified. Use only one of them."}},
        "omit: [top_p]",
    ),
    "pydantic": (lambda body: "seed" not in body, 422, {"detail": [PYDANTIC]}, "omit: [seed]"),
    "plain": (lambda body: "seed" not in body, 400, b"unknown field `seed` at line 1", "omit: [seed]"),
    "roles": (
        lambda body: [message["role"] for message in body["messages"]] == ["user"],
        500,
        {"error": {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}},
        "system_role: user",
    ),
    "no system": (
        lambda body: body["messages"][0]["content"] == "Be brief.\n\nchat 0",
        400,
        {"object": "error", "message": "System role not supported", "code": 400},
        "system_role: user",
    ),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_provider_refuses_by_name_is_left_out_said_once_and_remembered(
    server: Server, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    fits, status, said, told = REFUSALS[kind]
    name = "max_completion_tokens" if kind == "old limit" else "max_tokens"
    server.script = refuse(fits, status, said)
    budget = Budget()
    generator = connect(server, budget, request={"max_tokens_name": name})
    for _ in range(2):  # no try is left (max_retries 0), and what was learnt outlives the session
        answers = completions(generator, [Chat("chat 0", system="Be brief.")] * 3, Sampling())
    assert len(server.bodies) == 7, "refused once"
    [notice] = [record.getMessage() for record in caplog.records]
    assert f"summary.writer.request.{told}" in notice
    assert generator.pace.failed_tries == 0
    omitted = tuple(told.removeprefix("omit: [").removesuffix("]") for _ in "x" if told.startswith("omit"))
    assert {answer.omitted for answer in answers} == {omitted}


def test_calls_that_meet_a_refusal_together_change_the_request_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Barrier(4)

    def script(number: int, body: dict[str, Any]) -> Reply:
        if number <= 4:
            gate.wait(10)
        return failing(400, "Unrecognized request argument supplied: seed") if "seed" in body else ok()

    server.script = script
    answers, failure = drain(connect(server, concurrency=4), count=12)
    assert (len(answers), failure, len(server.bodies), len(caplog.records)) == (12, None, 16, 1)


def test_settings_send_what_the_provider_wants_from_the_start(server: Server) -> None:
    request = {
        "max_tokens_name": "max_completion_tokens",
        "omit": ["seed", "top_p"],
        "system_role": "developer",
        "extra": {"reasoning_effort": "low"},
    }
    completions(connect(server, request=request), [Chat("Tea?", system="Be brief.")], Sampling())
    [body] = server.bodies
    assert body == {
        "model": "m",
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Tea?"}],
        "max_completion_tokens": 150,
        "temperature": 0.0,
        "reasoning_effort": "low",
        "stream": False,
    }
    asked_otherwise = {
        connect(server, request={"omit": list(o)}).identity for o in ((), ("seed",), ("top_p",))
    }
    assert len(asked_otherwise) == 3
    assert connect(server, request={"max_tokens_name": "max_completion_tokens"}).identity == "m"


def test_a_text_to_go_on_with_is_sent_as_such_up_to_the_lines_end_and_a_refused_stop_is_left_out(
    server: Server,
) -> None:
    def script(number: int, body: dict[str, Any]) -> Reply:
        choice = {"index": 0, "text": " Buys tea.", "finish_reason": "stop"}
        refused = failing(400, "Unsupported parameter: stop")
        return refused if "stop" in body and number > 1 else ok(choices=[choice])

    server.script = script
    generator = connect(server)
    chat = Chat("Bought: tea\nNote:", is_continued=True)
    sampling = Sampling(frequency_penalty=0.5)
    first, second = (completions(generator, [chat], sampling)[0] for _ in range(2))
    assert (first.text, second.text) == ("Buys tea.", "Buys tea.")
    assert (first.omitted, second.omitted) == ((), ("stop",))
    whole, *_, without = server.bodies
    assert (whole["prompt"], whole["stop"], whole["frequency_penalty"]) == (chat.user, ["\n"], 0.5)
    assert "messages" not in whole
    assert "stop" not in without


def test_a_limit_that_no_name_fits_is_never_left_out(server: Server) -> None:
    server.script = lambda number, body: failing(400, f"Unknown parameter: {sorted(body)}")
    _, failure = drain(connect(server))
    assert isinstance(failure, Unanswered)
    assert all({"max_tokens", "max_completion_tokens"} & body.keys() for body in server.bodies)


SENTENCES: dict[str, tuple[int, Any, str]] = {
    "openai": (400, {"error": {"message": "it went wrong", "type": "x"}}, "it went wrong"),
    "text": (422, {"error": "it went wrong", "error_type": "validation"}, "it went wrong"),
    "detail": (400, {"detail": "it went wrong"}, "it went wrong"),
    "list": (422, {"detail": [{"loc": ["body", "n"], "msg": "went wrong"}]}, "body.n: went wrong"),
    "message": (400, {"object": "error", "message": "it went wrong", "code": 400}, "it went wrong"),
    "nested": (400, {"message": {"detail": [{"loc": ["n"], "msg": "went wrong"}]}}, "n: went wrong"),
    "page": (500, b"<html><title>it &amp; they went wrong</title></html>", "it & they went wrong"),
    "page without title": (500, b"<h1>it</h1><script>x()</script> went wrong", "it went wrong"),
    "plain": (500, b"it went wrong\n", "it went wrong"),
    "other JSON": (400, {"oops": "it went wrong"}, '{"oops": "it went wrong"}'),
    "terminal": (400, {"error": "it \x1b[31mwent\x07 wrong\n\u202e"}, "it [31mwent wrong"),
    "empty": (500, b"", "no word"),
    "long": (400, {"error": "it went wrong " * 500}, "it went wrong it went wrong"),
}


@pytest.mark.parametrize("kind", SENTENCES)
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_the_servers_own_sentence_is_shown_whatever_the_shape_of_its_body(
    server: Server, kind: str, coding: str
) -> None:
    status, body, sentence = SENTENCES[kind]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    packed = gzip.compress(data) if coding == "gzip" else data
    server.script = lambda number, _: (
        status,
        {"Content-Encoding": coding, "Content-Length": str(len(packed))},
        packed,
    )
    _, failure = drain(connect(server))
    assert isinstance(failure, Unanswered)
    assert f"status {status}: {sentence}" in failure.reason
    assert len(failure.reason) < 800
    assert failure.reason.isprintable()


@pytest.mark.parametrize(
    "said", ["Incorrect API key provided: sk-xx.", f"key {KEY[:-4]}**** is wrong", "Bearer abc.def is wrong"]
)
def test_what_looks_like_a_key_is_masked(server: Server, said: str) -> None:
    server.script = lambda number, body: failing(401, said)
    _, error = drain(connect(server))
    assert "***" in str(error)
    assert not any(part in str(error) for part in ("sk-", "abc.def"))


@pytest.mark.parametrize(
    ("status", "body", "step", "ends_all"),
    [
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}, "quota is used up", True),
        (402, {"message": "Payment required"}, "quota is used up", True),
        (404, {"message": "model 'm' not found, try pulling it first"}, "/models lists what", True),
        (400, {"message": "The model `m` does not exist"}, "/models lists what", True),
        (400, {"message": "maximum context length is 512 tokens"}, "raise its context length", False),
        (422, {"message": "inputs must have less than 512 tokens. Given: 900"}, "raise its context", False),
        (500, {"message": "the request exceeds the available context size"}, "raise its context", False),
        (400, {"message": "n must be 1"}, "summary.writer.request leaves out or renames", False),
    ],
)
def test_the_hint_speaks_of_what_the_error_says_and_nothing_is_tried_again(
    server: Server, status: int, body: dict[str, Any], step: str, ends_all: bool
) -> None:
    server.script = lambda number, _: (status, {}, {"error": body})
    _, error = drain(connect(server, max_retries=5))
    assert isinstance(error, WriterError if ends_all else Unanswered)
    said = error.reason if isinstance(error, Unanswered) else str(error)
    assert step in said
    assert len(server.bodies) == 1


def test_a_limit_a_minute_that_only_the_sentence_tells_is_waited_for(server: Server) -> None:
    said = "Rate limit reached for model. Please try again in 30ms."
    server.script = lambda number, body: failing(429, said) if number == 1 else ok()
    answers, error = drain(connect(server, max_retries=1))
    assert (len(answers), error) == (1, None)


def test_a_redirect_and_a_missing_root_say_where_the_api_is(server: Server) -> None:
    root = server.url
    server.url = root.removesuffix("/v1")
    server.script = lambda number, body: failing(404, "Not Found")
    _, error = drain(connect(server))
    assert f"perhaps {root}" in str(error)
    moved = {"Location": f"{root}/chat/completions"}
    server.script = lambda number, body: (308, moved, b"") if number == 2 else failing(404, "Not Found")
    _, error = drain(connect(server))
    assert f"base_url leads elsewhere: set it to {root}" in str(error)


def test_an_answer_that_can_not_be_stored_ends_all_calls_before_the_next_is_sent(server: Server) -> None:
    async def store_nothing(answer: Answering, chat: Chat) -> None:
        async with answer(chat):
            message = "disk full"
            raise StoreError(message)

    async def ask() -> list[BaseException | None]:
        async with connect(server).session(Sampling()) as answer:
            calls = (store_nothing(answer, Chat(f"chat {n}")) for n in range(5))
            return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in asyncio.run(ask())] == [StoreError] * 5
    assert len(server.bodies) == 1


def test_a_call_that_is_let_go_leaves_its_turn_to_the_next(server: Server) -> None:
    async def ask() -> object:
        async with connect(server).session(Sampling()) as answer:
            async with answer(Chat("chat 0")):  # it holds the only place
                waiting = [asyncio.create_task(outcome(answer, Chat(f"chat {n}"))) for n in (1, 2)]
                await asyncio.sleep(0)
                waiting[0].cancel()
                await asyncio.sleep(0)
            return await waiting[1]

    assert isinstance(asyncio.run(ask()), Completion)
    assert [body["messages"][0]["content"] for body in server.bodies] == ["chat 0", "chat 2"]
