"""What the contract can't show: failures, retries, keys; a real HTTP server plays them."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trsr.config import load
from trsr.config.summary import EndpointWriter, Sampling
from trsr.errors import ConfigError, WriterError
from trsr.models.endpoint import EndpointGenerator
from trsr.models.generation import Chat, Completion, Failure

KEY = "sk-very-secret-0123456789"
Reply = tuple[int, dict[str, str], dict[str, Any]]


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
        data = json.dumps(answer).encode()
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


def connect(server: Server, **settings: Any) -> EndpointGenerator:
    defaults = {"max_retries": 0, "concurrency": 1, "api_key_env": "TRSR_TEST_KEY", "timeout_s": 60}
    url = server.url
    return EndpointGenerator(EndpointWriter(kind="endpoint", base_url=url, model="m", **defaults | settings))


def drain(
    generator: EndpointGenerator, count: int = 1, sampling: Sampling | None = None
) -> tuple[dict[int, Completion], WriterError | Failure | None]:
    """The answers, and the error that ended the stream or else the last call's failure."""
    answers: dict[int, Completion] = {}
    failure = None
    try:
        chats = [Chat(f"chat {n}") for n in range(count)]
        for place, outcome in generator.generate(chats, sampling or Sampling()):
            if isinstance(outcome, Failure):
                failure = outcome
            else:
                answers[place] = outcome
    except WriterError as error:
        return answers, error
    return answers, failure


def test_sends_the_chat_and_the_sampling(server: Server) -> None:
    sampling = Sampling(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=4)
    answers = list(connect(server).generate([Chat("Tea?", system="Be brief.")], sampling))
    assert answers == [(0, Completion("Likes tea.", 7, 3, "stop"))]
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
    assert answers == {0: Completion("", 0, 0, "stop")}


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
    assert isinstance(error, Failure)
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
    assert isinstance(error, WriterError if ends_all else Failure)
    said = error.reason if isinstance(error, Failure) else str(error)
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
    assert isinstance(error, Failure)


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
    assert sorted(answers) == [0, 1]
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
        list(generator.generate([chat], Sampling()))
    assert len(server.bodies) == 1
    allowed = connect(server, check_prompt_tokens=False)
    assert len(list(allowed.generate([chat], Sampling()))) == 1


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
    assert isinstance(error, Failure)
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
