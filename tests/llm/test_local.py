from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from asking import completions, outcome, outcomes
from trsr.config.summary import LocalWriter, Sampling
from trsr.errors import ModelError, WriterError
from trsr.llm import local
from trsr.llm.generator import Chat, Completion
from trsr.llm.local import LocalGenerator, find_style, identify

CHATS = [Chat("Tea."), Chat("What does this shopper like? " * 3, system="Be brief."), Chat("drill, 89")]
DRAWN = Sampling(max_new_tokens=16, temperature=0.9, top_p=0.95, seed=3)


def open_model(folder: Path, **settings: object) -> LocalGenerator:
    return LocalGenerator(LocalWriter(kind="local", model=str(folder), device="cpu", **settings))


def ask(generator: LocalGenerator, chats: list[Chat], sampling: Sampling) -> list[Completion]:
    return completions(generator, chats, sampling)


def greedy_ids(generator: LocalGenerator, chat: Chat, length: int) -> list[int]:
    """Decode by hand: one prompt, no cache, no padding."""
    prompt = torch.tensor([generator._encode(chat)])
    row = prompt.clone()
    with torch.inference_mode():
        for _ in range(length):
            row = torch.cat([row, generator._model(row).logits[:, -1:].argmax(dim=-1)], dim=1)
    return row[0, prompt.shape[1] :].tolist()


def test_greedy_answers_are_those_of_transformers(tiny_model_dir: Path) -> None:
    generator = open_model(tiny_model_dir)
    for chat, completion in zip(CHATS, ask(generator, CHATS, Sampling(max_new_tokens=10)), strict=True):
        answer = greedy_ids(generator, chat, 10)
        stop = generator._tokenizer.eos_token_id
        kept = answer[: answer.index(stop)] if stop in answer else answer
        assert completion.completion_tokens == len(kept)
        assert completion.text == generator._tokenizer.decode(kept, skip_special_tokens=True).strip()


def test_drawn_answers_depend_on_the_seed_and_not_on_batch_mates(tiny_model_dir: Path) -> None:
    generator = open_model(tiny_model_dir, batch_size=3)
    together = ask(generator, CHATS, DRAWN)
    assert [ask(generator, [chat], DRAWN)[0] for chat in CHATS] == together
    assert ask(generator, CHATS, DRAWN.model_copy(update={"seed": 4})) != together


def test_a_model_that_slots_do_not_fit_is_decoded_in_padded_batches_and_says_so(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_slots = open_model(tiny_model_dir, batch_size=2)
    assert in_slots.why_padded == ""
    monkeypatch.setattr(local, "fit_slots", lambda _: "it is of another kind")
    padded = open_model(tiny_model_dir, batch_size=2)
    assert "tiny-chat" in caplog.text
    assert "padded batches: it is of another kind" in caplog.text
    for sampling in (Sampling(max_new_tokens=10), DRAWN):
        assert ask(padded, CHATS, sampling) == ask(in_slots, CHATS, sampling)


def test_chats_that_come_while_others_are_answered_are_answered(tiny_model_dir: Path) -> None:
    generator = open_model(tiny_model_dir, batch_size=2)

    async def ask_the_third_when_one_is_there() -> list[object]:
        async with generator.session(Sampling(max_new_tokens=10)) as answer:
            first = [asyncio.create_task(outcome(answer, chat)) for chat in CHATS[:2]]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            return [*await asyncio.gather(*first, outcome(answer, CHATS[2]))]

    found = asyncio.run(ask_the_third_when_one_is_there())
    assert found == ask(generator, CHATS, Sampling(max_new_tokens=10))


def test_sessions_side_by_side_do_not_mix(tiny_model_dir: Path) -> None:
    generator = open_model(tiny_model_dir, batch_size=2)
    sampling = Sampling(max_new_tokens=10)

    async def two_sessions() -> list[list[object]]:
        async with generator.session(sampling) as one, generator.session(sampling) as other:
            both = ((one, CHATS), (other, CHATS[::-1]))
            asked = [asyncio.gather(*(outcome(answer, chat) for chat in chats)) for answer, chats in both]
            return await asyncio.gather(*asked)

    alone = ask(generator, CHATS, sampling)
    assert asyncio.run(two_sessions()) == [alone, alone[::-1]]


def test_the_folders_own_generation_settings_do_not_go_over_the_runs(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "tiny-chat")
    settings = {"do_sample": True, "temperature": 2.0, "repetition_penalty": 5.0, "max_length": 30}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    plain = ask(open_model(tiny_model_dir), CHATS, Sampling(max_new_tokens=10))
    assert ask(open_model(folder), CHATS, Sampling(max_new_tokens=10)) == plain


def test_an_answer_stops_at_any_of_the_declared_ends(tiny_model_dir: Path, tmp_path: Path) -> None:
    answer = greedy_ids(open_model(tiny_model_dir), CHATS[0], 4)
    folder = shutil.copytree(tiny_model_dir, tmp_path / "tiny-chat")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, answer[3]]}))
    [stopped] = ask(open_model(folder), CHATS[:1], Sampling(max_new_tokens=8))
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens == answer.index(answer[3])


def test_a_prompt_over_the_context_is_refused_with_its_lengths(tiny_model_dir: Path) -> None:
    generator = open_model(tiny_model_dir)
    with pytest.raises(WriterError, match=r"prompt of \d+ tokens and answer of up to 50 .* context of 2048"):
        ask(generator, [Chat("tea"), Chat("tea " * 2100)], Sampling(max_new_tokens=50))


def test_a_device_out_of_memory_says_what_to_lower_and_the_next_session_works(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = open_model(tiny_model_dir, batch_size=7)

    def fail(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError

    with monkeypatch.context() as patched:
        patched.setattr(generator, "_in_slots", fail)
        found = outcomes(generator, CHATS, Sampling(max_new_tokens=10))
    assert all(isinstance(each, WriterError) for each in found)
    assert "out of memory with 7 prompts of up to" in str(found[0])
    assert len(ask(generator, CHATS, Sampling(max_new_tokens=10))) == 3


def test_identity_tells_folders_apart(tiny_model_dir: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_model_dir, tmp_path / "tiny-chat")
    assert open_model(other).identity == open_model(tiny_model_dir).identity
    (other / "chat.txt").write_text("another")
    assert open_model(other).identity != open_model(tiny_model_dir).identity


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16"])
def test_the_number_format_is_part_of_the_identity_which_is_known_before_loading(
    tiny_model_dir: Path, dtype: str
) -> None:
    config = LocalWriter(kind="local", model=str(tiny_model_dir), device="cpu", dtype=dtype)
    identity = LocalGenerator(config).identity
    assert identity == identify(config)
    assert identity.endswith(" bfloat16" if dtype == "bfloat16" else " float32")


def test_a_missing_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"summary.writer.model: .*there is no such folder.*give its folder"):
        open_model(tmp_path / "absent")


def test_a_hub_model_that_can_not_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"'some-org/some-model' can't be loaded: .*Check the name, or download"
    ):
        LocalGenerator(LocalWriter(kind="local", model="some-org/some-model", device="cpu"))


def test_a_hub_models_identity_is_its_commit(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub id resolves to a cached snapshot, whose folder is named by the commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--org--tiny"
    shutil.copytree(tiny_model_dir, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = LocalWriter(kind="local", model="org/tiny", revision="main", device="cpu")
    assert LocalGenerator(config).identity == f"org/tiny@{commit} float32"
    assert identify(config) == f"org/tiny@{commit} float32"


def test_an_adapter_writes_as_the_model_that_it_makes_of_its_base(
    tiny_model_dir: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    lora = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(base, lora).save_pretrained(tmp_path / "adapter")
    adapter = open_model(tmp_path / "adapter")
    assert adapter.identity.startswith("adapter@folder-")
    assert " merged into tiny-chat@folder-" in adapter.identity
    assert adapter.identity == identify(
        LocalWriter(kind="local", model=str(tmp_path / "adapter"), device="cpu")
    )
    sampling = Sampling(max_new_tokens=10)
    assert ask(adapter, CHATS, sampling) != ask(open_model(tiny_model_dir), CHATS, sampling)


def test_a_model_that_names_no_end_is_told(
    tiny_model_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "endless")
    generator = open_model(folder)
    tokenizer = generator._tokenizer
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None, "pad_token_id": None}))
    [answer] = ask(open_model(folder), CHATS[:1], Sampling(max_new_tokens=4))
    assert "names no token that ends an answer" in caplog.text
    assert (answer.finish_reason, answer.completion_tokens) == ("length", 4)


@pytest.mark.parametrize(
    ("file", "content"), [("config.json", b"{"), ("model.safetensors", b"broken"), ("tokenizer.json", b"{}")]
)
def test_a_broken_folder_says_what_it_must_hold(
    tiny_model_dir: Path, tmp_path: Path, file: str, content: bytes
) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "tiny-chat")
    (folder / file).write_bytes(content)
    with pytest.raises(ModelError, match=r"can't be loaded: .*(must hold config\.json|empty or cut off)"):
        open_model(folder)


def test_code_that_comes_with_a_model_is_never_run(tiny_model_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model_dir, tmp_path / "tiny-chat")
    trap = tmp_path / "ran"
    (folder / "modeling_own.py").write_text(f"open({str(trap)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "modeling_own.C", "AutoModelForCausalLM": "modeling_own.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError):
        open_model(folder)
    assert not trap.exists()


def test_an_unusable_device_is_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(ModelError, match=r"summary.writer.device: 'abacus' can't be used here"):
        LocalGenerator(LocalWriter(kind="local", model=str(tiny_model_dir), device="abacus"))


def test_who_asks_at_once_is_taken_at_once_longest_first(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "fit_slots", lambda _: "it is of another kind")
    generator = open_model(tiny_model_dir, batch_size=2)
    batches: list[list[int]] = []
    answer = generator._batch

    def noted(prompts, sampling, *rest):  # type: ignore[no-untyped-def]
        batches.append([len(prompt) for prompt in prompts])
        return answer(prompts, sampling, *rest)

    monkeypatch.setattr(generator, "_batch", noted)
    ask(generator, CHATS, Sampling(max_new_tokens=4))
    lengths = sorted((len(generator._encode(chat)) for chat in CHATS), reverse=True)
    assert batches == [lengths[:2], lengths[2:]]


LINE = Chat("Bought: tea pot\nNote: Buys tea.\n\nBought: drill<|im_end|>\nNote:", is_continued=True)


@pytest.mark.parametrize("padded", [False, True])
def test_a_text_is_gone_on_with_as_it_is_up_to_the_lines_end(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, padded: bool
) -> None:
    if padded:
        monkeypatch.setattr(local, "fit_slots", lambda _: "it is of another kind")
    generator = open_model(tiny_model_dir)
    assert generator._tokenizer.decode(generator._encode(LINE)) == LINE.user
    assert generator._tokenizer.eos_token_id not in generator._encode(LINE)
    generator._stops = frozenset()
    third = greedy_ids(generator, LINE, 3)[2]
    line_ends = generator._line_ends
    generator.__dict__["_line_ends"] = frozenset({third})  # a random model writes no line end soon
    sampling = Sampling(max_new_tokens=6)
    [line, message] = ask(generator, [LINE, Chat("Tea.")], sampling)
    assert (line.completion_tokens, message.completion_tokens) == (3, 6)
    texts = {token: generator._tokenizer.decode([token]) for token in range(len(generator._tokenizer))}
    assert line_ends == {token for token, text in texts.items() if "\n" in text} != set()
    row = generator._tokenizer("Buys tea.\n").input_ids
    written = generator._completion(9, row, is_line=True)
    assert (written.text, written.finish_reason) == ("Buys tea.", "stop")
    assert generator._completion(9, row[:-1], is_line=True).finish_reason == "length"


@pytest.mark.parametrize("padded", [False, True])
def test_the_frequency_penalty_keeps_an_answer_from_loops_and_leaves_the_prompt_alone(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, padded: bool
) -> None:
    if padded:
        monkeypatch.setattr(local, "fit_slots", lambda _: "it is of another kind")
    generator = open_model(tiny_model_dir)
    generator._stops = frozenset()
    prompt = generator._encode(CHATS[0])
    wanted: list[int] = []
    with torch.inference_mode():
        for _ in range(60):  # by hand: one prompt, no cache
            logits = generator._model(torch.tensor([[*prompt, *wanted]])).logits[0, -1]
            for token in wanted:
                logits[token] -= 2.0
            wanted.append(int(logits.argmax()))
    [answer] = ask(generator, CHATS[:1], Sampling(max_new_tokens=60, frequency_penalty=2.0))
    assert answer.text == generator._tokenizer.decode(wanted, skip_special_tokens=True).strip()
    assert wanted != greedy_ids(generator, CHATS[0], 60)


def test_the_style_follows_width_and_chat_template_and_is_known_before_loading(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def style(folder: Path, **settings: object) -> str:
        config = LocalWriter(kind="local", model=str(folder), device="cpu", **settings)
        assert LocalGenerator(config).style == find_style(config)
        return find_style(config)

    assert style(tiny_model_dir) == "examples"  # 32 wide
    assert style(tiny_model_dir, style="chat") == "chat"
    monkeypatch.setattr(local, "_NARROW", 32)
    assert style(tiny_model_dir) == "chat"
    assert style(tiny_model_dir, style="examples") == "examples"
    base = shutil.copytree(tiny_model_dir, tmp_path / "base")
    (base / "chat_template.jinja").unlink()
    assert style(base) == "examples"
