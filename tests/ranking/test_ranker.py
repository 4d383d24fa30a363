from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_shop
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from trsr.bundle import put_model
from trsr.compact.start import fresh_ranker
from trsr.config import Config
from trsr.config.ranking import HuggingFaceModel, Lora, Training
from trsr.errors import ArtifactError, ModelError
from trsr.hf.loading import load_language_model, model_identity
from trsr.ranking.ranker import Origin, Ranker
from trsr.ranking.training import fine_tune


def disturb(ranker: Ranker) -> None:
    """Give fresh adapters, whose second half is zero, some effect."""
    with torch.no_grad():
        for name, parameter in ranker.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(1))


def local_base(tmp_path: Path, architecture: str = "qwen2") -> HuggingFaceModel:
    folder = tmp_path / "base-model"
    plain = tiny_shop.ranker(architecture)
    plain.model.save_pretrained(folder)
    plain.tokenizer.save_pretrained(folder)
    return HuggingFaceModel(kind="huggingface", path=str(folder))


def same_scores(one: Ranker, other: Ranker) -> None:
    people = tiny_shop.users(3)
    for left, right in zip(one.score(people), other.score(people), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_a_full_model_comes_back_as_it_was(tmp_path: Path) -> None:
    ranker = tiny_shop.ranker(kind="compact")
    ranker.save(tmp_path / "model")
    loaded = Ranker.load(tmp_path / "model")
    same_scores(ranker, loaded)
    assert loaded.origin == ranker.origin
    assert loaded.prompt.terse
    assert not loaded.model.training
    assert not list((tmp_path / "model").glob("*.bin")), "weights are safetensors"


def test_an_adapter_comes_back_on_the_base_that_was_saved_with_it(tmp_path: Path) -> None:
    ranker = tiny_shop.ranker(kind="compact")
    ranker.adapt(Lora())
    disturb(ranker)
    ranker.save(tmp_path / "model")
    loaded = Ranker.load(tmp_path / "model")
    assert isinstance(loaded.model, PeftModel)
    same_scores(ranker, loaded)


@pytest.mark.parametrize("architecture", ["qwen2", "gpt_neox"])
def test_an_adapter_comes_back_on_the_base_it_names(architecture: str, tmp_path: Path) -> None:
    base = local_base(tmp_path, architecture)
    plain = tiny_shop.ranker(architecture)
    origin = Origin("huggingface", model_identity(base.path), base)
    ranker = Ranker(plain.model, plain.tokenizer, tiny_shop.PROMPTING, 12, origin)
    ranker.adapt(Lora())
    disturb(ranker)
    ranker.save(tmp_path / "model")
    assert not (tmp_path / "model" / "base").exists(), "a base that has a name isn't copied"
    same_scores(ranker, Ranker.load(tmp_path / "model"))
    put_model(tmp_path / "model", tmp_path / "moved")
    for gone in (Path(base.path), tmp_path / "model"):
        shutil.rmtree(gone)
    same_scores(ranker, Ranker.load(tmp_path / "moved"))
    for path in (tmp_path / "moved").glob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")


def test_an_adapter_is_not_put_on_a_base_that_has_changed(tmp_path: Path) -> None:
    base = local_base(tmp_path)
    plain = tiny_shop.ranker()
    origin = Origin("huggingface", model_identity(base.path), base)
    ranker = Ranker(plain.model, plain.tokenizer, tiny_shop.PROMPTING, 12, origin)
    ranker.adapt(Lora())
    disturb(ranker)
    ranker.save(tmp_path / "model")
    tiny_shop.ranker(seed=1).model.save_pretrained(base.path)
    with pytest.raises(ModelError, match=r"was made from base-model@folder-.* is base-model@folder-.* now"):
        Ranker.load(tmp_path / "model")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_merged_from_an_adapter_is_trained_and_comes_back(method: str, tmp_path: Path) -> None:
    base = local_base(tmp_path)
    lora = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), lora).save_pretrained(
        tmp_path / "adapter"
    )
    settings = base.model_copy(update={"path": str(tmp_path / "adapter")})
    config = Config(model=settings, prompt=tiny_shop.PROMPTING)
    ranker = fresh_ranker(config, None)
    assert " merged into base-model@folder-" in ranker.origin.identity
    people = tiny_shop.users(4)
    training = Training(method=method, epochs=1, negatives=1, learning_rate=1e-2)
    fine_tune(ranker, people, people, training, tmp_path / "checkpoints", seed=0)
    ranker.save(tmp_path / "model")
    same_scores(ranker, Ranker.load(tmp_path / "model"))
    if method == "lora":
        # Whoever else reads the folder finds the merged model below, and not the bare base.
        again = load_language_model(base.model_copy(update={"path": str(tmp_path / "model")}), "cpu")
        assert again.identity.count(" merged into ") == 2
        put_model(tmp_path / "model", tmp_path / "moved")
        for gone in (Path(base.path), tmp_path / "adapter", tmp_path / "model"):
            shutil.rmtree(gone)
        same_scores(ranker, Ranker.load(tmp_path / "moved"))


def test_the_prompt_is_no_longer_than_the_model() -> None:
    plain = tiny_shop.ranker()
    long = tiny_shop.PROMPTING.model_copy(update={"max_tokens": 4096})
    ranker = Ranker(plain.model, plain.tokenizer, long, 12, plain.origin)
    assert ranker.prompt.prompting.max_tokens == 511, "512 positions, one of them for the answer"
    assert plain.prompt.prompting.max_tokens == 256


def test_a_model_too_short_for_any_prompt_is_refused_with_the_numbers() -> None:
    plain = tiny_shop.ranker()
    plain.model.config.max_position_embeddings = 20
    with pytest.raises(ModelError, match=r"tiny: the model has 20 positions.*must be at least \d+.*got 19"):
        Ranker(plain.model, plain.tokenizer, tiny_shop.PROMPTING, 12, plain.origin)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda weights: weights.pop("model.norm.weight"), r"missing: model\.norm\.weight"),
        (lambda weights: weights["model.norm.weight"].fill_(float("nan")), "NaN or infinite"),
    ],
)
def test_a_saved_model_whose_weights_are_damaged_is_refused(
    change: Callable[[dict[str, torch.Tensor]], object], complaint: str, tmp_path: Path
) -> None:
    tiny_shop.ranker(kind="compact").save(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=complaint):
        Ranker.load(tmp_path)


def test_a_saved_adapter_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    ranker = tiny_shop.ranker(kind="compact")
    ranker.adapt(Lora())
    disturb(ranker)
    ranker.save(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    lost = next(name for name in weights if "layers.1" in name)
    del weights[lost]
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"don't fit its base model \(missing: .*layers\.1"):
        Ranker.load(tmp_path)


def test_an_adapter_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    ranker = tiny_shop.ranker(kind="compact")
    ranker.adapt(Lora())
    ranker.save(tmp_path / "model")
    with pytest.raises(ModelError, match="adapter doesn't change the model's logits"):
        Ranker.load(tmp_path / "model")


def test_an_adapter_that_was_read_is_trained_on_and_nothing_else() -> None:
    ranker = tiny_shop.ranker()
    ranker.adapt(Lora())
    adapted = ranker.model
    adapted.requires_grad_(False)
    ranker.adapt(Lora(rank=2))
    assert ranker.model is adapted
    trained = {name for name, weights in adapted.named_parameters() if weights.requires_grad}
    assert trained == {name for name, _ in adapted.named_parameters() if ".lora_" in name} != set()


def test_a_missing_ranker_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="trsr train"):
        Ranker.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 99}, "format must be 1, got 99"),
        ({"prompting": {"domain": "cars"}}, "a setting is missing or wrong"),
        ({"templates": {"rank_prefix": "0"}}, "was trained with templates"),
        ({"prompt_ids": "0"}, "was trained with prompt_ids"),
        ({"answers": {"yes": 5, "no": 6}}, "was trained with answers"),
    ],
)
def test_a_card_that_no_longer_fits_is_refused(
    change: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    tiny_shop.ranker().save(tmp_path)
    card = json.loads((tmp_path / "ranker.json").read_text(encoding="utf-8"))
    (tmp_path / "ranker.json").write_text(json.dumps(card | change), encoding="utf-8")
    with pytest.raises(ArtifactError, match=complaint):
        Ranker.load(tmp_path)


def test_a_card_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ranker.json").write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a readable ranker card"):
        Ranker.load(tmp_path)


def test_lost_weights_are_a_model_error(tmp_path: Path) -> None:
    tiny_shop.ranker().save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="train again"):
        Ranker.load(tmp_path)


def test_score_is_of_the_users_in_their_order_and_survives_a_smaller_budget() -> None:
    ranker = tiny_shop.ranker()
    people = tiny_shop.users(4)
    scores = ranker.score(people)
    assert [len(one) for one in scores] == [5] * 4
    assert all(0 < value < 1 for one in scores for value in one)
    for one, other in zip(scores, ranker.score(people[::-1], batch_tokens=256)[::-1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
