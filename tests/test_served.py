"""A ranker behind a server: each protocol over real HTTP, its faults, its caps, nothing paid for twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_shop
from numpy.typing import NDArray

from counting_server import CountingServer, counting_server
from scoring_server import ScoringServer, scoring_server
from trsr.config import Config, load
from trsr.errors import BudgetError, ConfigError, ModelError, WriterError
from trsr.llm import pacing
from trsr.prompts.item_text import ApproximateTokens, item_line
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.served import ORDERS, ServedOrder, ServedRanker
from trsr.summarize.store import Store
from trsr.summarize.store.admin import forget, measure

PATHS = {
    "vllm": "/generative_scoring",
    "sglang": "/v1/score",
    "completions": "/v1/completions",
    "transformers": "/v1/systemone",
}
EXACT = ["vllm", "sglang", "completions"]


@pytest.fixture(scope="module")
def local() -> Ranker:
    return tiny_shop.ranker("llama")


@pytest.fixture(scope="module")
def tokenizer_folder(local: Ranker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    local.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def server(local: Ranker, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScoringServer]:
    monkeypatch.setattr(pacing, "draw_wait", lambda tries, stream: 0.0)
    monkeypatch.setattr(pacing, "ENOUGH_IN_A_ROW", 50)
    with scoring_server(local.model, local.tokenizer) as running:
        yield running


def settings(server: ScoringServer, tokenizer: Path, folder: Path, **model: Any) -> Config:
    told = {"kind": "endpoint", "base_url": server.base_url, "model": "m", "tokenizer": str(tokenizer)}
    return load(
        overrides={
            "out": str(folder / "run"),
            "prompt": tiny_shop.PROMPTING.model_dump(mode="json") | {"item_tokens": 12},
            "model": {"protocol": "vllm", "concurrency": 2, "max_retries": 8} | told | model,
        }
    )


def close(one: list[NDArray[np.float64]], other: list[NDArray[np.float64]]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-6)


@pytest.mark.parametrize("protocol", EXACT)
def test_scores_are_those_of_the_model_here_and_are_asked_for_once(
    protocol: str, server: ScoringServer, local: Ranker, tokenizer_folder: Path, tmp_path: Path
) -> None:
    config = settings(server, tokenizer_folder, tmp_path, protocol=protocol, candidates=3)
    people = tiny_shop.users(4, candidates=5)
    ranker = ServedRanker(config)
    scores = ranker.score(people)
    close(scores, local.score(people))
    assert np.ptp(np.concatenate(scores)) > 1e-3, "scores that hardly differ would prove nothing"
    assert server.asked[PATHS[protocol]] == 8
    assert ranker.told["calls"] == 8
    if protocol != "sglang":  # it tells no usage, and counts as reserved
        assert ranker.told["prompt_tokens"] > 8 * 60
    again = ServedRanker(config)
    close(again.score(people), scores)
    assert server.asked[PATHS[protocol]] == 8
    assert (again.told["calls"], again.told["calls_reused"]) == (0, 8)
    with Store(config.store_url) as store:
        assert measure(store).usage.calls_unreported == (8 if protocol == "sglang" else 0)
        assert forget(store, "u1").calls == 2


def test_a_server_of_transformers_is_asked_in_its_own_words(
    server: ScoringServer, local: Ranker, tokenizer_folder: Path, tmp_path: Path
) -> None:
    ranker = ServedRanker(settings(server, tokenizer_folder, tmp_path, protocol="transformers"))
    [user] = tiny_shop.users(1, candidates=3)
    [scores] = ranker.score([user])
    assert server.asked == {"/v1/systemone": 3}, "one candidate a request, and no /tokenize"
    told = {body["questions"]["next"]["instructions"]: body["state"] for body in server.bodies}
    prefix = local.prompt.prefix(user.summary, user.history).text
    assert told == {local.prompt.suffix(item).text: prefix for item in user.candidates}
    assert len({*scores}) == 3


@pytest.mark.parametrize("protocol", PATHS)
def test_faults_that_pass_are_survived(
    protocol: str, server: ScoringServer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    people = tiny_shop.users(2, candidates=2)
    expected = ServedRanker(settings(server, tokenizer_folder, tmp_path / "a", protocol=protocol)).score(
        people
    )
    before = server.asked[PATHS[protocol]]
    kinds = ["429", "500", "503", "close", "shape", "nan", "missing", "large"]
    server.faults = [*kinds, *(["fewer"] if protocol != "transformers" else [])]
    faults = len(server.faults)
    ranker = ServedRanker(
        settings(server, tokenizer_folder, tmp_path / "b", protocol=protocol, max_retries=20)
    )
    close(ranker.score(people), expected)
    assert not server.faults
    assert server.asked[PATHS[protocol]] == 2 * before + faults
    # What may have been charged counts: the lost and the unreadable replies, and no refusal.
    assert ranker.told["calls"] == before + faults - 3


def test_a_page_in_place_of_scores_ends_the_run_at_once(
    server: ScoringServer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    server.faults = ["page"]
    with pytest.raises(WriterError, match=r"no list of scores.*web page.*Welcome.*base_url"):
        ServedRanker(settings(server, tokenizer_folder, tmp_path)).score(tiny_shop.users(1))


def test_a_fault_that_stays_ends_the_run_and_what_was_answered_is_kept(
    server: ScoringServer, local: Ranker, tokenizer_folder: Path, tmp_path: Path
) -> None:
    people = tiny_shop.users(4)
    config = settings(server, tokenizer_folder, tmp_path, concurrency=1)
    # Only one user's prompt holds these ids.
    server.refuses = str(list(local.prompt.prefix(people[2].summary, people[2].history).ids))[1:-1]
    with pytest.raises(WriterError, match=r"1 of 4 requests.*told to fail 400; check that the server speaks"):
        ServedRanker(config).score(people)
    assert server.asked[PATHS["vllm"]] == 4
    server.refuses = ""
    close(ServedRanker(config).score(people), local.score(people))
    assert server.asked[PATHS["vllm"]] == 5


def test_caps_hold_and_the_next_command_pays_for_the_rest(
    server: ScoringServer, local: Ranker, tokenizer_folder: Path, tmp_path: Path
) -> None:
    people = tiny_shop.users(5)
    capped = settings(server, tokenizer_folder, tmp_path, limits={"max_calls": 2})
    with pytest.raises(BudgetError, match=r"max_calls 2.*2 calls made.*model\.limits"):
        ServedRanker(capped).score(people)
    assert server.asked[PATHS["vllm"]] == 2
    price = {"prompt": 1000.0, "completion": 0.0}
    ranker = ServedRanker(settings(server, tokenizer_folder, tmp_path, price=price, limits={"max_cost": 50}))
    close(ranker.score(people), local.score(people))
    assert server.asked[PATHS["vllm"]] == 5
    assert ranker.told["money"] == pytest.approx(ranker.told["prompt_tokens"] / 1000)
    with pytest.raises(ConfigError, match=r"model\.limits\.max_cost needs a price"):
        ServedRanker(settings(server, tokenizer_folder, tmp_path, limits={"max_cost": 1}))


def test_another_tokenizer_than_the_servers_is_refused_before_anything_is_paid(
    server: ScoringServer, local: Ranker, tokenizer_folder: Path, tmp_path: Path
) -> None:
    server.tokenizer = read_other()
    with pytest.raises(WriterError, match=r"its tokenizer is another one than model\.tokenizer"):
        ServedRanker(settings(server, tokenizer_folder, tmp_path)).score(tiny_shop.users(1))
    server.tokenizes = False
    with pytest.raises(WriterError, match=r"no /tokenize.*model\.check_tokens to false"):
        ServedRanker(settings(server, tokenizer_folder, tmp_path)).score(tiny_shop.users(1))
    assert server.asked[PATHS["vllm"]] == 0
    people = tiny_shop.users(1)
    trusted = ServedRanker(settings(server, tokenizer_folder, tmp_path, check_tokens=False))
    close(trusted.score(people), local.score(people))


def read_other() -> Any:
    return tiny_shop.train_tokenizer(["some other words"], ["yes no"], ("yes", "no"), 400)


def test_a_server_that_cuts_prompts_is_found_out(
    server: ScoringServer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    server.longest = 50
    with pytest.raises(WriterError, match=r"counts \d+ tokens in prompts of \d+.*prompt\.max_tokens"):
        ServedRanker(settings(server, tokenizer_folder, tmp_path)).score(tiny_shop.users(2))


def test_what_can_not_be_asked_is_told_before_anything_is_sent(
    server: ScoringServer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"model\.tokenizer: .*can't be loaded"):
        ServedRanker(settings(server, tmp_path, tmp_path))
    with pytest.raises(ConfigError, match=r"must hold no user name, password"):
        settings(server, tokenizer_folder, tmp_path, base_url="http://me:secret@host/v1")
    words = settings(server, tokenizer_folder, tmp_path).model_dump(mode="json")
    words["prompt"]["answers"] = ["absolutely", "no"]
    with pytest.raises(ModelError, match=r"'absolutely' must be one token"):
        ServedRanker(Config.model_validate(words))
    assert not server.asked


def test_candidates_with_equal_texts_are_asked_about_once(
    server: ScoringServer, tokenizer_folder: Path, tmp_path: Path
) -> None:
    [user] = tiny_shop.users(1, candidates=3)
    twice = RankingUser(user.user_id, user.summary, user.history, (*user.candidates, user.candidates[0]))
    ranker = ServedRanker(settings(server, tokenizer_folder, tmp_path))
    [scores] = ranker.score([twice])
    assert scores[0] == scores[3]
    assert len(server.bodies[0]["items"]) == 3


NUMBERED = re.compile(r"(\d+)\. (.*)")


def shown_in(prompt: str) -> list[str]:
    """Read the candidates out of the one message of a request, as they are numbered there."""
    [message] = json.loads(prompt)
    return [line for _, line in NUMBERED.findall(message["content"])]


def ranker_of_orders(server: CountingServer, folder: Path, **model: Any) -> ServedOrder:
    told = {"kind": "endpoint", "protocol": "chat", "base_url": server.base_url, "model": "chat"}
    prompting = tiny_shop.PROMPTING.model_dump(mode="json") | {"item_tokens": 12}
    return ServedOrder(
        load(overrides={"out": str(folder / "run"), "prompt": prompting, "model": told | model})
    )


def test_an_order_of_all_candidates_becomes_their_scores_and_is_paid_for_once(tmp_path: Path) -> None:
    """The chat model behind the server puts candidates by their texts, whatever their numbers."""
    people = tiny_shop.users(3, candidates=6)
    with counting_server() as server:

        def alphabetical(prompt: str) -> str:
            lines = shown_in(prompt)
            order = sorted(range(len(lines)), key=lines.__getitem__)
            return f"Here are all {len(lines)}: " + " > ".join(str(place + 1) for place in order) + "."

        server.say = alphabetical
        ranker = ranker_of_orders(server, tmp_path)
        scores = ranker.score(people)
        turned = [replace(user, candidates=user.candidates[::-1]) for user in people]
        again = ranker_of_orders(server, tmp_path)
        reversed_scores = again.score(turned)
        assert sum(server.asked.values()) == 3, "another order of the same candidates is the same question"
        prompts = list(server.asked)
    for user, found, other in zip(people, scores, reversed_scores, strict=True):
        lines = [item_line(item, ApproximateTokens(), 12) for item in user.candidates]
        distinct = sorted(set(lines))
        assert found.tolist() == [len(distinct) - distinct.index(line) for line in lines]
        assert other[::-1].tolist() == found.tolist()
    assert again.told["calls"] == 0
    assert again.told[ORDERS] == {"whole": 3}
    # The newest items stand there oldest first, and the candidates in an order that tells nothing.
    recent = [item_line(item, ApproximateTokens(), 12) for item in people[0].history[-2:]]
    assert any("\\n- ".join(["", *recent]) in prompt for prompt in prompts)
    assert all(shown_in(prompt) != sorted(shown_in(prompt)) for prompt in prompts)


def test_orders_that_are_none_or_leave_candidates_out_are_asked_for_again_and_counted(tmp_path: Path) -> None:
    [user] = tiny_shop.users(1, candidates=6)
    asked: list[str] = []

    def answers(*texts: str) -> Callable[[str], str]:
        waiting = iter(texts)
        return lambda prompt: asked.append(prompt) or next(waiting)

    with counting_server() as server:
        for number, (texts, counts, named) in enumerate(
            [
                (["2 > 1 > 2 > 99 > 3 > 4"], {"incomplete": 1}, 4),
                (["I can't say.", "3 > 1"], {"asked again": 1, "incomplete": 1}, 2),
                (["6 > 5", "all of them"], {"asked again": 1, "incomplete": 1}, 2),
                (["no", "none"], {"asked again": 1, "none": 1}, 0),
            ]
        ):
            server.say = answers(*texts)
            ranker = ranker_of_orders(server, tmp_path / str(number))
            [scores] = ranker.score([user])
            assert ranker.told[ORDERS] == counts
            assert sorted(scores[scores > 0].tolist()) == list(range(7 - named, 7))
            assert ranker.told["calls"] == len(texts)
    repeated = [prompt for prompt in asked if "left most of them out" in prompt]
    assert len(asked) == 7
    assert len(repeated) == 3


def test_a_chat_model_gives_no_probability(tmp_path: Path) -> None:
    chat = {"kind": "endpoint", "protocol": "chat", "base_url": "http://localhost:9/v1", "model": "m"}
    with pytest.raises(
        ConfigError, match=r"chat writes orders, which are no p\(yes\): name it in comparison"
    ):
        ServedRanker(load(overrides={"out": str(tmp_path), "model": chat}))
    with pytest.raises(
        ConfigError, match="protocol vllm sends the ids of the model's own tokenizer: name it"
    ):
        load(overrides={"out": str(tmp_path), "model": chat | {"protocol": "vllm"}})
