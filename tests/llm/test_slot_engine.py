from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from trsr.llm.slots import SlotEngine, fit_slots

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
WINDOW = 24
LIMIT = 12


def make(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        match name:
            case "qwen2":
                return Qwen2ForCausalLM(Qwen2Config(**GROUPED)).eval()
            case "llama":
                return LlamaForCausalLM(LlamaConfig(**GROUPED)).eval()
            case "mistral":
                return MistralForCausalLM(MistralConfig(**GROUPED, sliding_window=WINDOW)).eval()
            case "gemma3":
                own = {
                    "sliding_window": WINDOW,
                    "head_dim": 8,
                    "sliding_window_pattern": 3,
                    "tie_word_embeddings": False,
                }
                return Gemma3ForCausalLM(Gemma3TextConfig(**GROUPED, **own)).eval()
            case _:
                return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)).eval()


def make_prompts(lengths: Sequence[int], alike: int) -> list[list[int]]:
    """Random prompts; all of them begin with the same `alike` tokens, or with as many as they have."""
    stream = torch.Generator().manual_seed(5)
    beginning = torch.randint(97, (alike,), generator=stream).tolist()
    rest = [torch.randint(97, (length,), generator=stream).tolist() for length in lengths]
    return [[*beginning, *row][:length] for row, length in zip(rest, lengths, strict=True)]


def decode_alone(model: Any, prompt: list[int], limit: int, stops: frozenset[int]) -> list[int]:
    """Decode one prompt with neither cache nor batch."""
    row = list(prompt)
    with torch.inference_mode():
        while len(row) - len(prompt) < limit and (len(row) == len(prompt) or row[-1] not in stops):
            row.append(int(model(torch.tensor([row])).logits[0, -1].argmax()))
    return row[len(prompt) :]


def feed(prompts: Sequence[list[int]]) -> Any:
    waiting = list(enumerate(prompts))

    def take(count: int) -> list[tuple[int, list[int]]]:
        taken = waiting[:count]
        del waiting[:count]
        return taken

    return take


@pytest.mark.parametrize("name", ["qwen2", "llama", "mistral", "gemma3", "gpt_neox"])
def test_answers_are_those_of_one_prompt_at_a_time(name: str) -> None:
    model = make(name)
    prompts = make_prompts((1, 2, 90, 40, 41, 33, 70, 150, 20, 55, 21), alike=20)
    alone = [decode_alone(model, prompt, LIMIT, frozenset()) for prompt in prompts]
    # Tokens of the answers themselves, so that some end early and their rows are filled again.
    stops = frozenset({alone[2][3], alone[4][5]})
    wanted = {place: decode_alone(model, prompt, LIMIT, stops) for place, prompt in enumerate(prompts)}
    assert len({len(answer) for answer in wanted.values()}) > 2
    assert fit_slots(model) == ""
    engine = SlotEngine(model, rows=3)
    assert dict(engine.answer(feed(prompts), LIMIT, stops)) == wanted
    # Rows now hold what earlier prompts left; it must not show.
    assert dict(engine.answer(feed(prompts[::-1]), LIMIT, stops)) == {
        len(prompts) - 1 - place: answer for place, answer in wanted.items()
    }


def test_a_common_beginning_is_computed_once() -> None:
    model = make("qwen2")
    fit_slots(model)
    engine = SlotEngine(model, rows=4)
    prompts = make_prompts((50, 50, 50, 50, 50, 50), alike=40)
    dict(engine.answer(feed(prompts), 2, frozenset()))
    # The last token of a prompt counts with the answer: 49 of the first prompt, then 9 of each.
    assert engine.prompt_tokens_computed == 49 + 5 * 9


def test_prompts_that_come_while_others_are_answered_are_taken_in() -> None:
    model = make("llama")
    prompts = make_prompts((30, 35, 300), alike=20)
    wanted = [decode_alone(model, prompt, 6, frozenset()) for prompt in prompts]
    fit_slots(model)
    arrived = [(0, prompts[0]), (1, prompts[1])]

    def take(count: int) -> list[tuple[int, list[int]]]:
        taken = arrived[:count]
        del arrived[:count]
        return taken

    found = {}
    # The last prompt is longer than the rows that were made for the first two.
    for number, answer in SlotEngine(model, rows=2).answer(take, 6, frozenset()):
        found[number] = answer
        if number == 0:
            arrived.append((2, prompts[2]))
    assert [found[number] for number in range(3)] == wanted


def test_nothing_to_do_is_done_at_once() -> None:
    model = make("qwen2")
    fit_slots(model)
    answers: Iterator[Any] = SlotEngine(model, rows=2).answer(lambda _: [], 5, frozenset())
    assert list(answers) == []
