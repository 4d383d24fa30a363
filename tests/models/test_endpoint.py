"""What the contract can't show: failures, retries, keys; a real HTTP server plays them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trsr.config.summary import EndpointWriter, Sampling
from trsr.errors import WriterError
from trsr.models.endpoint import EndpointGenerator
from trsr.models.generation import Chat, Completion

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
    defaults = {"max_retries": 0, "concurrency": 1, "api_key_env": "TRSR_TEST_KEY", "timeout_s": 10}
    url = server.url
    return EndpointGenerator(EndpointWriter(kind="endpoint", base_url=url, model="m", **defaults | settings))


def drain(generator: EndpointGenerator, count: int = 1) -> tuple[dict[int, Completion], WriterError | None]:
    answers: dict[int, Completion] = {}
    try:
        for place, completion in generator.generate([Chat(f"chat {n}") for n in range(count)], Sampling()):
            answers[place] = completion
    except WriterError as error:
        return answers, error
    return answers, None


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
    assert 1.0 <= second - first < 3


def test_a_slow_answer_is_given_up_and_named(server: Server) -> None:
    server.script = lambda number, body: (time.sleep(0.6), ok())[1]
    answers, error = drain(connect(server, timeout_s=0.2))
    assert answers == {}
    assert error is not None
    assert error.retryable
    assert "no answer within 0.2 s, 1 times" in str(error)


@pytest.mark.parametrize(
    ("status", "step", "retryable"),
    [
        (401, "TRSR_TEST_KEY is not set; put the server's key there", False),
        (403, "TRSR_TEST_KEY is not set", False),
        (404, "check summary.writer.model", False),
        (400, "lower items.max_tokens", False),
        (429, "lower summary.writer.concurrency", True),
        (500, "see the server's log", True),
    ],
)
def test_a_refusal_names_server_model_status_and_next_step(
    server: Server, status: int, step: str, retryable: bool
) -> None:
    server.script = lambda number, body: failing(status, "went wrong")
    _, error = drain(connect(server))
    assert error is not None
    assert error.retryable is retryable
    url = server.url
    for fact in (f"{url}, model 'm': status {status}", "went wrong", step):
        assert fact in str(error)
    assert len(server.bodies) == 1


def test_the_key_is_sent_and_shown_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TRSR_TEST_KEY", KEY)
    caplog.set_level(0)
    server.script = lambda number, body: failing(401, f"Incorrect key: {KEY}")
    generator = connect(server)
    _, error = drain(generator)
    assert server.keys == {f"Bearer {KEY}"}
    assert error is not None
    assert "TRSR_TEST_KEY holds a key that it refuses" in str(error)
    for shown in (str(error), repr(error), repr(generator), generator.identity, caplog.text):
        assert KEY not in shown


def test_no_server_says_so(server: Server) -> None:
    generator = EndpointGenerator(
        EndpointWriter(kind="endpoint", base_url="http://127.0.0.1:9/v1", model="m", max_retries=0)
    )
    _, error = drain(generator)
    assert error is not None
    assert error.retryable
    assert "http://127.0.0.1:9/v1, model 'm': can't connect" in str(error)


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_something_else_than_an_api_says_so(server: Server, kind: str) -> None:
    server.script = lambda number, body: (200, {"Content-Type": kind}, {"hello": "world"})
    answers, error = drain(connect(server), count=3)
    assert answers == {}
    assert error is not None
    assert "the reply is no chat completion" in str(error)
    assert "hello" in str(error)


def test_after_a_failure_answers_under_way_still_come_and_nothing_new_is_sent(server: Server) -> None:
    failed = threading.Event()

    def script(number: int, body: dict[str, Any]) -> Reply:
        if body["messages"][0]["content"] == "chat 1":
            failed.set()
            return failing(400)
        failed.wait(5)
        time.sleep(0.3)  # long enough for the client to have seen the failure
        return ok()

    server.script = script
    answers, error = drain(connect(server, concurrency=2), count=20)
    assert error is not None
    assert "status 400" in str(error)
    assert 0 in answers
    assert len(answers) == len(server.bodies) - 1 <= 3


def test_requests_run_at_once_up_to_the_limit(server: Server) -> None:
    under_way, most = 0, 0
    lock = threading.Lock()

    def script(number: int, body: dict[str, Any]) -> Reply:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        time.sleep(0.05)
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
