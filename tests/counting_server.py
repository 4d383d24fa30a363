"""An OpenAI-compatible server that answers from the prompt alone and counts what it was asked.

Whether a killed run repeats calls can only be seen by counting on the other side.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class CountingServer(ThreadingHTTPServer):
    """Serves chat completions; `asked` counts each distinct prompt, `say` may answer something else."""

    daemon_threads = True

    def __init__(self, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.delay_s = delay_s
        self.say: Callable[[str], str | None] | None = None
        self.tells_usage = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent when a killed client is gone before its answer."""


class _Handler(BaseHTTPRequestHandler):
    server: CountingServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = json.dumps(body["messages"], sort_keys=True)
        with self.server.lock:
            self.server.asked[prompt] += 1
        time.sleep(self.server.delay_s)
        text = f"Likes things of kind {hashlib.sha256(prompt.encode()).hexdigest()[:8]}."
        text = (self.server.say and self.server.say(prompt)) or text
        answer = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            ],
            "usage": {"prompt_tokens": len(prompt) // 4, "completion_tokens": 8, "total_tokens": 0},
        }
        if not self.server.tells_usage:
            del answer["usage"]
        payload = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


@contextmanager
def counting_server(delay_s: float = 0.0) -> Iterator[CountingServer]:
    """Run the server for the length of the block."""
    server = CountingServer(delay_s)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
