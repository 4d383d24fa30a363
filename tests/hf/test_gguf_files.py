"""GGUF files that the test writes itself: a random Llama and a byte-level BPE, as llama.cpp stores them."""

from __future__ import annotations

import asyncio
import fcntl
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from trsr.config import load as load_config
from trsr.config.ranking import HuggingFaceModel, Lora
from trsr.config.summary import LocalWriter, Prompting, Sampling
from trsr.errors import ModelError
from trsr.hf.gguf_files import is_local, locate
from trsr.hf.known_models import cache_folder
from trsr.hf.loading import LanguageModel, load_language_model, model_identity
from trsr.llm.generator import Chat, Completion, TokenizerChatTokens
from trsr.llm.local import LocalGenerator, identify
from trsr.ranking.ranker import Origin, Ranker
from trsr.stages.train import outside

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
SCRIPTS = (
    "Cordless drill, 18V  12 bits",
    "\n\n2024\n 7",
    "Дрель аккумуляторная  18 В",
    "무선 드릴 18V",
    "コードレスドリル 18V 第2版",
    "कॉर्डलेस ड्रिल १८",
    "مثقاب  ١٨ فولت",
    "½ inch x²",
)


def backend() -> Tokenizer:
    """A byte-level BPE that keeps every digit alone, as SmolLM's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SCRIPTS, *[" yes no"] * 9, "a  b\n\nc  d"] * 40, trainer)
    return tokenizer


def llama(vocabulary: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_theta=5000.0,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LlamaForCausalLM(config).eval()


def paired(weights: torch.Tensor, heads: int) -> torch.Tensor:
    """Order the rows as llama.cpp does, which turns neighbours where transformers turns halves."""
    rows, width = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    found = {
        "token_embd.weight": model.model.embed_tokens.weight,
        "output_norm.weight": model.model.norm.weight,
    }
    for number, layer in enumerate(model.model.layers):
        attention, feed = layer.self_attn, layer.mlp
        found |= {
            f"blk.{number}.{name}.weight": weight
            for name, weight in {
                "attn_q": paired(attention.q_proj.weight, 4),
                "attn_k": paired(attention.k_proj.weight, 2),
                "attn_v": attention.v_proj.weight,
                "attn_output": attention.o_proj.weight,
                "ffn_gate": feed.gate_proj.weight,
                "ffn_up": feed.up_proj.weight,
                "ffn_down": feed.down_proj.weight,
                "attn_norm": layer.input_layernorm.weight,
                "ffn_norm": layer.post_attention_layernorm.weight,
            }.items()
        }
    return {name: weight.detach().numpy().astype(np.float32) for name, weight in found.items()}


def write_gguf(
    path: Path, *, architecture: str = "llama", pre: str = "smollm", quantised: bool = False, **facts: Any
) -> LlamaForCausalLM:
    """Write a whole model and return it. `facts` are further metadata, dots as double underscores."""
    tokenizer = backend()
    ids = tokenizer.get_vocab()
    model = llama(len(ids))
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny Llama")
    writer.add_license("apache-2.0")
    writer.add_vocab_size(len(ids))
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    tokens = sorted(ids, key=ids.__getitem__)
    writer.add_token_list(tokens)
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in SPECIAL else normal for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for key, value in facts.items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add(key.replace("__", "."), value)
    eight = gguf.GGMLQuantizationType.Q8_0
    for name, weight in tensors(model).items():
        if quantised and weight.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(weight, eight), raw_dtype=eight)
        else:
            writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dequantised"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LlamaForCausalLM]:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return path, write_gguf(path)


def settings(path: Path | str) -> HuggingFaceModel:
    return HuggingFaceModel(kind="huggingface", path=str(path))


def load(path: Path | str) -> LanguageModel:
    return load_language_model(settings(path), "cpu")


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=torch.tensor([[9, 33, 71, 120, 5]]), use_cache=False).logits


def test_the_model_and_its_tokens_are_those_that_were_written(
    cache: Path, written: tuple[Path, LlamaForCausalLM], capsys: pytest.CaptureFixture[str]
) -> None:
    path, original = written
    loaded = load(path)
    assert torch.allclose(logits(loaded.model), logits(original), atol=1e-5)
    assert loaded.model.dtype == torch.float32
    own = backend()
    for text in SCRIPTS:
        ids = loaded.tokenizer(text).input_ids
        assert ids == own.encode(text).ids, text
        assert loaded.tokenizer.decode(ids) == text
    assert loaded.tokenizer.chat_template == CHAT_TEMPLATE
    assert [loaded.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == [0, 1, 2]
    assert (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id) == (1, 0)
    assert loaded.model.generation_config.eos_token_id == [0, 2]
    assert "Tiny Llama (tiny.gguf, licence apache-2.0): dequantised once" in capsys.readouterr().err


def test_special_tokens_have_the_parts_that_the_file_names_whatever_transformers_guesses(
    cache: Path, written: tuple[Path, LlamaForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    guess = AutoTokenizer.from_pretrained

    def other(*args: Any, **kwargs: Any) -> Any:
        tokenizer = guess(*args, **kwargs)
        tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", None
        return tokenizer

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", other)
    place = locate(str(written[0])).path
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", guess)
    tokenizer = guess(place)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0, 2)


def test_it_is_dequantised_once_and_named_by_its_metadata_and_hash(
    cache: Path, written: tuple[Path, LlamaForCausalLM], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = written
    loaded = load(path)
    assert loaded.identity.startswith("Tiny Llama@gguf-")
    assert loaded.licence == "apache-2.0"
    (copy := tmp_path / "renamed.gguf").write_bytes(path.read_bytes())
    capsys.readouterr()
    assert model_identity(str(copy)) == load(copy).identity == loaded.identity
    assert capsys.readouterr().err == ""
    assert [folder.name for folder in cache.iterdir() if folder.is_dir()] == [
        Path(locate(str(path)).path).name
    ]
    write_gguf(other := tmp_path / "other.gguf", general__version="v2")
    assert model_identity(str(other)) != loaded.identity


def test_quantised_weights_are_read_as_what_they_stand_for(cache: Path, tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "q8.gguf", quantised=True).state_dict()
    for name, weight in load(tmp_path / "q8.gguf").model.state_dict().items():
        # Eight bits for each block of 32: half a step of the largest weight in it.
        assert (weight - original[name]).abs().max() <= 0.51 * original[name].abs().max() / 127, name


def test_a_writer_takes_a_gguf_file(cache: Path, written: tuple[Path, LlamaForCausalLM]) -> None:
    config = LocalWriter(kind="local", model=str(written[0]), device="cpu")
    generator = LocalGenerator(config)
    assert generator.identity == identify(config) == f"{model_identity(str(written[0]))} float32"
    chat = Chat("a drill", system="Be brief.")

    async def ask() -> Completion:
        async with generator.session(Sampling(max_new_tokens=3)) as answering, answering(chat) as answer:
            return answer

    answer = asyncio.run(ask())
    assert answer.prompt_tokens == TokenizerChatTokens(str(written[0])).count(chat)


def test_a_rankers_card_names_the_file_and_its_licence(
    cache: Path, written: tuple[Path, LlamaForCausalLM], tmp_path: Path
) -> None:
    base = settings(written[0])
    loaded = load(written[0])
    origin = Origin("huggingface", loaded.identity, base, loaded.licence)
    ranker = Ranker(loaded.model, loaded.tokenizer, Prompting(), 16, origin)
    ranker.adapt(Lora())
    torch.nn.init.normal_(next(part for name, part in ranker.model.named_parameters() if "lora_B" in name))
    ranker.save(tmp_path / "model")
    card = json.loads((tmp_path / "model" / "ranker.json").read_text())
    assert card["identity"] == model_identity(str(written[0]))
    assert card["licence"] == "apache-2.0"
    again = Ranker.load(tmp_path / "model", "cpu")
    assert again.origin == origin
    # The adapter's folder alone is a model, too: its base is the GGUF file.
    assert load(tmp_path / "model").identity.endswith(f"merged into {card['identity']}")


def test_training_depends_on_what_the_file_holds(cache: Path, written: tuple[Path, LlamaForCausalLM]) -> None:
    model = {"kind": "huggingface", "path": str(written[0])}
    assert model_identity(model["path"]) in outside(load_config(overrides={"model": model}))
    with pytest.raises(ModelError, match="trsr models get smollm2-135m"):
        outside(load_config(overrides={"model": model | {"path": "smollm2-135m"}}))


def test_a_folder_of_one_gguf_file_is_a_model(
    cache: Path, written: tuple[Path, LlamaForCausalLM], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "only.gguf").symlink_to(written[0])
    assert load(folder).identity == model_identity(str(written[0]))
    (folder / "second.gguf").symlink_to(written[0])
    with pytest.raises(ModelError, match=r"several GGUF files; name one: only\.gguf, second\.gguf"):
        load(folder)


def test_a_file_that_is_not_there_is_no_hub_id() -> None:
    assert is_local("nowhere.gguf")
    with pytest.raises(ModelError, match=r"model\.path: 'nowhere\.gguf' .*there is no such file"):
        load("nowhere.gguf")


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 0.999])
def test_a_cut_off_file_is_refused(
    cache: Path, written: tuple[Path, LlamaForCausalLM], tmp_path: Path, share: float
) -> None:
    whole = written[0].read_bytes()
    (cut := tmp_path / "cut.gguf").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"cut\.gguf: this GGUF file is damaged or cut off"):
        load(cut)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


def test_a_damaged_count_is_refused_and_not_read_for_ever(
    cache: Path, written: tuple[Path, LlamaForCausalLM], tmp_path: Path
) -> None:
    whole = bytearray(written[0].read_bytes())
    place = whole.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type") + 8
    whole[place : place + 8] = (1 << 60).to_bytes(8, "little")
    (damaged := tmp_path / "damaged.gguf").write_bytes(whole)
    with pytest.raises(ModelError, match="damaged or cut off"):
        load(damaged)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is no GGUF file: it begins with b''"),
        (b"<!DOCTYPE html><html>", "is no GGUF file: it begins with b'<!DOCTYP'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ],
)
def test_another_file_is_refused(cache: Path, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ModelError) as refused:
        load(tmp_path / "model.gguf")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"architecture": "rwkv6"}, r"architecture rwkv6 is not supported yet\.; take the model's folder"),
        ({"general__type": "mmproj"}, "general.type must be 'model', got 'mmproj'"),
        ({"split__count": 3}, "one of 3 parts; join them with llama.cpp's gguf-split --merge"),
        ({"llama__rope__scaling__type": "yarn"}, r"its positions are stretched \(yarn\)"),
        ({"pre": "viking"}, "tokenizer.ggml.pre 'viking', which isn't known here"),
        (
            {"llama__attention__key_length": 32},
            "key_length 32, but transformers makes a model with head_dim 16",
        ),
    ],
)
def test_what_would_become_another_model_is_refused(
    cache: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    write_gguf(tmp_path / "model.gguf", **changes)
    with pytest.raises(ModelError, match=told):
        load(tmp_path / "model.gguf")


def test_a_damaged_copy_in_the_cache_is_made_anew(
    cache: Path, written: tuple[Path, LlamaForCausalLM], capsys: pytest.CaptureFixture[str]
) -> None:
    weights = Path(locate(str(written[0])).path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    capsys.readouterr()
    assert torch.allclose(logits(load(written[0]).model), logits(written[1]), atol=1e-5)
    assert "dequantised once" in capsys.readouterr().err


def test_what_a_killed_process_left_is_swept_but_not_a_living_ones(
    cache: Path, written: tuple[Path, LlamaForCausalLM]
) -> None:
    for name in (".dead-1.abc.partial", ".living-1.abc.partial"):
        (cache / name).mkdir(parents=True)
        (cache / name / "model.safetensors").touch()
    with (cache / ".living-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        locate(str(written[0]))
    assert [path.name for path in cache.glob(".*.partial")] == [".living-1.abc.partial"]


def test_a_cache_that_cannot_be_written_is_told(
    written: tuple[Path, LlamaForCausalLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match=r"can't be written \(Not a directory\).*set TRSR_CACHE"):
        load(written[0])


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRSR_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert cache_folder() == Path("caches/trsr")
    monkeypatch.setenv("TRSR_CACHE", "own")
    assert cache_folder() == Path("own")
