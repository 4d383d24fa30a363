"""A server that scores candidates over HTTP with a real tiny model, in every protocol, and fails on purpose.

What it is asked is checked as the real servers do: by field, by type, and, for `transformers serve`, by the
request model of transformers itself.
"""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cli.serving.systemone import SystemOneRequest
from transformers.decision import DecisionConfig, parse_questions


class ScoringServer(ThreadingHTTPServer):
    """Computes with `model`; `faults` are met by the next requests for scores, first to last.

    `asked` counts requests by path, `bodies` are those for scores that were answered. `longest` is the
    context to which vLLM's way of asking cuts prompts; `tokenizes` is whether there is a ``/tokenize``.
    """

    daemon_threads = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.tokenizer = tokenizer
        self.faults: list[str] = []
        self.refuses = ""
        self.longest = 10_000
        self.tokenizes = True
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent when a client is gone before its answer."""

    @torch.no_grad()
    def log_probabilities(self, ids: list[int]) -> torch.Tensor:
        return self.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)

    def share(self, ids: list[int], labels: list[int]) -> list[float]:
        return self.log_probabilities(ids)[-1, labels].softmax(-1).tolist()


class _Handler(BaseHTTPRequestHandler):
    server: ScoringServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked[self.path] += 1
            if self.path == "/tokenize":
                self._tokenize(body)
                return
            fault = self.server.faults.pop(0) if self.server.faults else ""
            if self.server.refuses and self.server.refuses in json.dumps(body):
                fault = "400"
            answer = {
                "/generative_scoring": self._vllm,
                "/v1/score": self._sglang,
                "/v1/completions": self._completions,
                "/v1/systemone": self._systemone,
            }[self.path](body)
            if not fault:
                self.server.bodies.append(body)
        self._reply(answer, fault)

    def _tokenize(self, body: dict[str, Any]) -> None:
        assert set(body) == {"model", "prompt", "add_special_tokens"}
        ids = self.server.tokenizer(body["prompt"], add_special_tokens=False).input_ids
        if self.server.tokenizes:
            self._send(200, json.dumps({"count": len(ids), "max_model_len": 512, "tokens": ids}))
        else:
            self._send(404, '{"detail": "Not Found"}')

    def _prompts(self, body: dict[str, Any]) -> list[list[int]]:
        assert body["item_first"] is False
        assert body["apply_softmax"] is True
        return [body["query"] + item for item in body["items"]]

    def _vllm(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["add_special_tokens"] is False
        prompts = [prompt[: self.server.longest] for prompt in self._prompts(body)]
        shares = [self.server.share(prompt, body["label_token_ids"])[0] for prompt in prompts]
        rows = [{"index": i, "object": "score", "score": share} for i, share in enumerate(shares)]
        total = sum(map(len, prompts))
        usage = {"prompt_tokens": total, "total_tokens": total, "completion_tokens": 0}
        return {"id": "1", "object": "list", "created": 0, "model": "m", "data": rows[::-1], "usage": usage}

    def _sglang(self, body: dict[str, Any]) -> dict[str, Any]:
        shares = [self.server.share(prompt, body["label_token_ids"]) for prompt in self._prompts(body)]
        return {"scores": shares, "model": "m", "usage": None, "object": "scoring"}

    def _completions(self, body: dict[str, Any]) -> dict[str, Any]:
        assert body["echo"] is True
        assert body["logprobs"] == body["max_tokens"] == 1
        choices = []
        for index, ids in enumerate(body["prompt"]):
            values = self.server.log_probabilities(ids)
            told = [None, *(values[place, ids[place + 1]].item() for place in range(len(ids) - 1))]
            written = values[-1].max().item()
            choices.append({"index": index, "text": "...", "logprobs": {"token_logprobs": [*told, written]}})
        total = sum(map(len, body["prompt"]))
        usage = {
            "prompt_tokens": total,
            "total_tokens": total + len(choices),
            "completion_tokens": len(choices),
        }
        return {"object": "text_completion", "model": "m", "choices": choices, "usage": usage}

    def _systemone(self, body: dict[str, Any]) -> dict[str, Any]:
        request = SystemOneRequest.model_validate(body, strict=True)
        [question] = parse_questions(request.questions, DecisionConfig())
        text = f"{request.state}\n\n{question.instructions}\nAnswer Yes or No only."
        ids = self.server.tokenizer(text).input_ids
        labels = self.server.tokenizer(" yes no").input_ids
        answers = {question.name: question.answer(self.server.share(ids, labels))}
        return {"model": "m", "answers": answers, "usage": {"input_tokens": len(ids), "output_tokens": 0}}

    def _reply(self, answer: dict[str, Any], fault: str) -> None:
        if fault in ("429", "500", "503", "400"):
            self._send(int(fault), json.dumps({"error": {"message": f"told to fail {fault}"}}))
        elif fault == "close":
            self.close_connection = True
        elif fault == "page":
            self._send(200, "<html><title>Welcome</title></html>")
        elif fault == "shape":
            self._send(200, json.dumps({"results": []}))
        else:
            self._send(200, json.dumps(_spoilt(answer, fault)))

    def _send(self, status: int, text: str) -> None:
        payload = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _spoilt(answer: dict[str, Any], fault: str) -> dict[str, Any]:
    """Put a fault into the first candidate's score, or leave it out."""
    rows = answer.get("data") or answer.get("scores") or answer.get("choices")
    if fault == "fewer":
        del rows[0]
    elif fault and "answers" in answer:
        answer["answers"]["next"]["noul"] = {"nan": math.nan, "missing": None, "large": 3.5}[fault]
    elif fault and "data" in answer:
        rows[0]["score"] = {"nan": math.nan, "missing": None, "large": 3.5}[fault]
    elif fault and "scores" in answer:
        rows[0] = {"nan": [math.nan, math.nan], "missing": None, "large": [3.5, -2.5]}[fault]
    elif fault:
        logprobs = {"token_logprobs": [math.nan] * len(rows[0]["logprobs"]["token_logprobs"])}
        rows[0]["logprobs"] = {"nan": logprobs, "missing": None, "large": {"token_logprobs": []}}[fault]
    return answer


@contextmanager
def scoring_server(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[ScoringServer]:
    """Run the server for the length of the block."""
    server = ScoringServer(model, tokenizer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
