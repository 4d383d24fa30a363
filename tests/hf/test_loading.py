from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BitsAndBytesConfig,
    BloomConfig,
    GPT2Config,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    Qwen2Model,
)

from trsr.config.ranking import HuggingFaceModel, Lora
from trsr.errors import ModelError
from trsr.hf import loading
from trsr.hf.adapters import add_adapter
from trsr.hf.gguf_files import Located
from trsr.hf.loading import choose_device, folder_identity, load_language_model, model_identity, positions

PROMPT = torch.tensor([[5, 9, 33, 71, 20]])
LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)


def settings(path: Path | str, dtype: str = "auto") -> HuggingFaceModel:
    return HuggingFaceModel.model_validate({"kind": "huggingface", "path": str(path), "dtype": dtype})


def test_a_local_model_is_named_by_its_content(tiny_model_dir: Path) -> None:
    loaded = load_language_model(settings(tiny_model_dir), device="cpu")
    assert loaded.identity.startswith("tiny-chat@folder-")
    assert not loaded.model.training
    assert loaded.model.dtype == torch.float32


def test_the_number_format_is_the_one_asked_for(tiny_model_dir: Path) -> None:
    assert (
        load_language_model(settings(tiny_model_dir, "bfloat16"), device="cpu").model.dtype == torch.bfloat16
    )


def test_a_folder_without_a_model_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.path: .* can't be loaded: .*must hold config\.json"):
        load_language_model(settings(tmp_path))


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path, tiny_model_dir: Path) -> None:
    assert settings(tiny_model_dir).trust_remote_code is False
    (tmp_path / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}',
        encoding="utf-8",
    )
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n", encoding="utf-8")
    with pytest.raises(ModelError):
        load_language_model(settings(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_device_by_name() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


def load(path: Path | str) -> torch.nn.Module:
    return load_language_model(settings(path), "cpu").model


@torch.inference_mode()
def logits(model: torch.nn.Module) -> torch.Tensor:
    return model(input_ids=PROMPT, use_cache=False).logits[0, -1]


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(tiny_model_dir, tmp_path / "model")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, file, {"format": "pt"})


def rename_a_layer(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith("model.layers.1.")]:
        weights[f"base_model.{name}"] = weights.pop(name)


def add_a_layer(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if name.startswith("model.layers.1.")]:
        weights[name.replace("layers.1.", "layers.2.")] = weights[name].clone()


def narrow_the_output(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"][:, :16]


def spoil(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["model.norm.weight"][3] = value

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("lm_head.weight"), r"missing: lm_head\.weight\)"),
        (
            rename_a_layer,
            r"missing: model\.layers\.1\..* more; left over: base_model\.model\.",
        ),
        (add_a_layer, r"\(left over: model\.layers\.2\.input_layernorm\.weight, "),
        (narrow_the_output, r"of another shape: lm_head\.weight \(\d+, 16\) for \(\d+, 32\)"),
        (spoil(float("nan")), r"NaN or infinite: model\.norm\.weight"),
        (spoil(float("-inf")), r"NaN or infinite: model\.norm\.weight"),
    ],
)
def test_weights_that_are_not_the_models_are_named(
    change: Callable[[dict[str, torch.Tensor]], None], complaint: str, folder: Path
) -> None:
    change_weights(folder, change)
    with pytest.raises(ModelError, match=complaint):
        load(folder)


@pytest.mark.parametrize("other", [Qwen2Model, Qwen2ForSequenceClassification])
def test_the_checkpoint_of_another_kind_of_model_is_refused(other: type, folder: Path) -> None:
    config = Qwen2Config.from_pretrained(folder)
    other(config).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"missing: lm_head\.weight"):
        load(folder)


def test_an_encoder_is_refused(folder: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    rows = Qwen2Config.from_pretrained(folder).vocab_size
    BertForMaskedLM(BertConfig(vocab_size=rows, is_decoder=False, **sizes)).save_pretrained(folder)
    with pytest.raises(ModelError, match="not causal"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", r"model\.safetensors is empty or cut off \(0 bytes\)"),
        (None, r"model\.safetensors is empty or cut off \(400 bytes\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
    ],
)
def test_a_file_without_its_weights_is_told(content: bytes | None, complaint: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:400] if content is None else content)
    with pytest.raises(ModelError, match=complaint):
        load(folder)


def test_weights_cut_off_in_the_middle_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="can't be loaded"):
        load(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"pickles \(pytorch_model\.bin\).*write model\.safetensors"):
        load(folder)


def resize(folder: Path, rows: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(rows)
    model.save_pretrained(folder)


def test_a_tokenizer_larger_than_the_model_is_refused_with_both_numbers(folder: Path) -> None:
    tokens = Qwen2Config.from_pretrained(folder).vocab_size
    resize(folder, tokens - 20)
    with pytest.raises(ModelError, match=rf"{tokens} tokens.*embeddings for {tokens - 20} tokens"):
        load(folder)


def test_padded_embeddings_and_a_padding_token_without_a_row_are_fine(folder: Path) -> None:
    tokenizer = load_language_model(settings(folder), "cpu").tokenizer
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    assert tokenizer.pad_token_id == len(tokenizer) - 1
    load(folder)
    resize(folder, len(tokenizer) + 40)
    load(folder)


def test_a_token_of_the_chat_template_needs_a_row(folder: Path) -> None:
    tokenizer = load_language_model(settings(folder), "cpu").tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.chat_template = "<|turn|>" + str(tokenizer.chat_template)
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match="the model has embeddings for"):
        load(folder)


def test_a_model_without_an_end_and_a_padding_token_loads(folder: Path) -> None:
    tokenizer = load_language_model(settings(folder), "cpu").tokenizer
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None, "pad_token_id": None}))
    load(folder)


def adapter_of(base: Path, folder: Path, config: LoraConfig = LORA) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), deepcopy(config))
        model.save_pretrained(folder)
    return folder


def test_an_adapter_is_merged_into_its_base_and_both_are_named(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    loaded = load_language_model(settings(adapter), "cpu")
    wanted = logits(PeftModel.from_pretrained(load(folder), adapter).eval())
    assert torch.allclose(logits(loaded.model), wanted, atol=1e-5)
    assert not torch.allclose(logits(loaded.model), logits(load(folder)), atol=1e-2)
    assert loaded.identity == f"{folder_identity(adapter)} merged into {folder_identity(folder)}"
    assert loaded.identity == model_identity(str(adapter))
    # A fresh adapter on top starts from the merged weights; without one, all of them can be trained.
    before = logits(loaded.model)
    assert all(weight.requires_grad for weight in loaded.model.parameters())
    assert torch.equal(logits(add_adapter(loaded.model, Lora()).eval()), before)


def test_an_adapter_counts_where_its_folder_holds_other_weights_too(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    alone = logits(load(adapter))
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folder / file, adapter / file)
    assert torch.equal(logits(load(adapter)), alone)


def edit(adapter: Path, **changes: object) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_base_beside_the_adapter_is_found(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    wanted = logits(load(adapter))
    edit(adapter, base_model_name_or_path="../model")
    assert torch.equal(logits(load(adapter)), wanted)


@pytest.mark.parametrize("named", ["/nowhere/base", None, ""])
def test_a_base_that_can_not_be_found_is_named(named: str | None, folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    edit(adapter, base_model_name_or_path=named)
    with pytest.raises(ModelError, match=rf"model\.path: .*base_model_name_or_path.*{named or ''}"):
        load(adapter)


@pytest.mark.parametrize(
    "config",
    [
        PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS"),
    ],
)
def test_an_adapter_that_can_not_be_merged_is_refused(
    config: LoraConfig, folder: Path, tmp_path: Path
) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    config.base_model_name_or_path = str(folder)
    config.save_pretrained(adapter)
    with pytest.raises(ModelError, match=f"kind {config.peft_type.value}.*can't be merged"):
        load(adapter)


def test_another_kind_of_adapter_that_can_be_merged_is(folder: Path, tmp_path: Path) -> None:
    config = IA3Config(
        task_type="CAUSAL_LM",
        target_modules=["k_proj"],
        feedforward_modules=[],
        init_ia3_weights=False,
    )
    adapter = adapter_of(folder, tmp_path / "adapter", config)
    assert not torch.allclose(logits(load(adapter)), logits(load(folder)), atol=1e-3)


def test_adapter_weights_that_go_nowhere_are_named(folder: Path, tmp_path: Path) -> None:
    adapter = adapter_of(folder, tmp_path / "adapter")
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    renamed = {name.replace("layers.1", "layers.7"): weight for name, weight in weights.items()}
    save_file(renamed, file)
    with pytest.raises(ModelError, match=r"don't fit its base.*missing: .*layers\.1.*left over: .*layers\.7"):
        load(adapter)
    save_file({name: weight[:, :8].contiguous() for name, weight in weights.items()}, file)
    with pytest.raises(ModelError, match=r"don't fit its base.*size mismatch for .*lora_A"):
        load(adapter)


class Positioned:
    def __init__(self, config: object) -> None:
        self.config = config


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (GPT2Config(n_positions=128), 128),
        (Qwen2Config(max_position_embeddings=4096, sliding_window=64, use_sliding_window=True), 4096),
        (
            Qwen2Config(
                max_position_embeddings=1024,
                rope_parameters={
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 1024,
                    "rope_theta": 10000.0,
                },
            ),
            4096,
        ),
        (BloomConfig(), None),
    ],
)
def test_a_models_length_is_that_of_its_positions(config: object, most: int | None) -> None:
    assert positions(Positioned(config)) == most


def quantized_settings(path: Path | str, bits: str) -> HuggingFaceModel:
    return settings(path).model_copy(update={"quantization": bits})


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A machine that says that it has a GPU and bitsandbytes; what transformers is asked is given back."""
    asked: dict = {}

    def from_pretrained(path: str, **options: object) -> tuple:
        asked.update(options, path=path)
        model = AutoModelForCausalLM.from_config(Qwen2Config(**SMALL))
        model.is_loaded_in_4bit = True
        return model, {"mismatched_keys": [], "missing_keys": [], "unexpected_keys": []}

    known = loading.importlib.util.find_spec
    monkeypatch.setattr(
        loading.importlib.util, "find_spec", lambda name: True if name == "bitsandbytes" else known(name)
    )
    monkeypatch.setattr(loading, "choose_device", lambda device="auto": torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    monkeypatch.setattr(loading, "require_sound", lambda model, tokenizer: None)
    return asked


SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_weights_of_few_bits_are_asked_of_transformers_by_its_own_settings(
    bits: str, tiny_model_dir: Path, with_gpu: dict
) -> None:
    loaded = load_language_model(quantized_settings(tiny_model_dir, bits))
    told = with_gpu["quantization_config"]
    assert isinstance(told, BitsAndBytesConfig)
    assert (told.load_in_8bit, told.load_in_4bit) == (bits == "8bit", bits == "4bit")
    if bits == "4bit":
        assert (told.bnb_4bit_quant_type, told.bnb_4bit_use_double_quant) == ("nf4", True)
        assert told.bnb_4bit_compute_dtype == torch.bfloat16
    assert with_gpu["device_map"] == {"": torch.device("cuda")}
    assert with_gpu["dtype"] == torch.bfloat16
    assert next(loaded.model.parameters()).device.type == "cpu", "such weights are never moved"


def test_adapters_on_weights_of_few_bits_are_put_on_as_qlora_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_config(Qwen2Config(**SMALL)).to(torch.bfloat16)
    model.is_loaded_in_4bit = True
    adapted = add_adapter(model, Lora(rank=2))
    trained = {name for name, part in adapted.named_parameters() if part.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert model.model.norm.weight.dtype == torch.float32


def test_few_bits_are_refused_with_the_next_step_where_they_can_not_be(
    tiny_model_dir: Path, tmp_path: Path, with_gpu: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(path: Path, bits: str = "4bit") -> str:
        with pytest.raises(ModelError) as refused:
            load_language_model(quantized_settings(path, bits))
        return str(refused.value)

    adapter = tmp_path / "adapter"
    adapter.mkdir()
    base = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_model_dir), "task_type": "CAUSAL_LM"}
    (adapter / "adapter_config.json").write_text(json.dumps(base))
    assert "can't be merged into weights of 8 or 4 bits" in refusal(adapter)
    monkeypatch.setattr(
        loading, "locate", lambda path: Located(str(tiny_model_dir), "Tiny@gguf-0123456789abcdef")
    )
    assert "a GGUF file were quantised already" in refusal(tiny_model_dir)
    monkeypatch.undo()
    assert "quantization: 8bit can't be had: it needs a CUDA device" in refusal(tiny_model_dir, "8bit")
    monkeypatch.setattr(loading, "choose_device", lambda device="auto": torch.device("cuda"))
    monkeypatch.setattr(loading, "number_format", lambda name, place: torch.bfloat16)
    assert "pip install 'trsr[quantized]', or set quantization: none" in refusal(tiny_model_dir)
    assert not with_gpu, "nothing was loaded"
