"""A tiny random model learns from histories what is taken together, which no word of a title tells."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from tiny_titles import N_ITEMS, cluster_auc, histories, save_tiny_titles_model, shuffled, titles

from trsr.baselines.item_encoder import open_encoder
from trsr.baselines.neural import llm2rec
from trsr.baselines.neural.network import ItemVectors, NextItemSettings
from trsr.baselines.neural.system import GRU4Rec, LLM2SASRec, SASRec
from trsr.baselines.pretrained_encoder import LLM2Rec
from trsr.baselines.training_data import Places, TrainingData
from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ConfigError, DataError, ModelError
from trsr.hf.loading import load_language_model
from trsr.hf.text_encoders import lifted_mask, require_lifted

CSFT = {"steps": 70, "batch_size": 16, "learning_rate": 5e-3, "warmup": 10}
MNTP = {"steps": 12, "learning_rate": 1e-3}
SIMCSE = {"steps": 12, "batch_size": 32, "learning_rate": 1e-3}
OFF = {"steps": 0}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TRSR_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    save_tiny_titles_model(folder)
    return str(folder)


def fitted(model: str, taken: list[Places], **settings: object) -> LLM2Rec:
    steps = {"csft": OFF, "mntp": OFF, "simcse": OFF} | settings
    encoder = LLM2Rec(model=model, **steps)
    encoder.fit(titles(), taken)
    return encoder


def vectors(encoder: LLM2Rec) -> NDArray[np.float32]:
    return encoder.encode(titles())


def last_loss(encoder: LLM2Rec) -> float:
    losses = json.loads((Path(encoder._model) / "source.json").read_text())["losses"]
    return float(np.mean([entry["loss"] for entry in losses[-10:]]))


def mean_cosine(table: NDArray[np.float32]) -> float:
    cosines = table @ table.T
    return float(cosines[np.triu_indices(len(table), 1)].mean())


def test_histories_teach_what_goes_together_and_shuffled_ones_do_not(tiny: str) -> None:
    untrained = fitted(tiny, histories())
    own, other = (fitted(tiny, taken, csft=CSFT) for taken in (histories(), shuffled(histories())))
    assert untrained._model == tiny
    assert cluster_auc(vectors(untrained)) == pytest.approx(0.5, abs=0.1)
    assert cluster_auc(vectors(other)) == pytest.approx(0.5, abs=0.1)
    assert cluster_auc(vectors(own)) > 0.65
    assert last_loss(own) < last_loss(other) - 0.2


def test_reading_both_ways_keeps_what_was_learnt_and_sets_titles_apart(tiny: str) -> None:
    before = vectors(fitted(tiny, histories(), csft=CSFT))
    after = vectors(fitted(tiny, histories(), csft=CSFT, mntp=MNTP, simcse=SIMCSE))
    assert cluster_auc(after) > cluster_auc(before) - 0.05
    assert mean_cosine(after) < mean_cosine(before)


def taken_together(encoder: str, **settings: object) -> LLM2SASRec:
    """SASRec on frozen vectors with an adapter, trained for too short a time to learn what they don't say."""
    frozen = {"adapter": "linear", "offset_scale": 0.0, "reducer": "none"}
    small = {
        "width": 16,
        "layers": 1,
        "max_epochs": 4,
        "learning_rate": 3e-3,
        "batch_size": 32,
        "average": 0.0,
    }
    system = LLM2SASRec(encoder=encoder, **frozen, **small, **settings)
    system.fit(shop())
    return system


def shop(valid: int = 40) -> TrainingData:
    asked = histories(valid, seed=9)
    draw = np.random.default_rng(0)
    return TrainingData(
        items=pl.DataFrame({"item_id": [f"i{place:02}" for place in range(N_ITEMS)], "title": titles()}),
        fields=("title",),
        sequences=tuple(histories()),
        valid_users=tuple(f"v{place}" for place in range(valid)),
        valid_histories=tuple(taken[:-1] for taken in asked),
        valid_candidates=np.array(
            [
                [taken[-1], *draw.choice(np.setdiff1d(np.arange(N_ITEMS), taken), 20, replace=False)]
                for taken in asked
            ],
            np.int32,
        ),
        valid_targets=np.zeros(valid, np.int64),
    )


def test_vectors_that_have_learnt_help_and_permuted_ones_do_not(tiny: str) -> None:
    learnt = f"llm2rec(model={tiny!r}, csft={CSFT}, mntp={OFF}, simcse={OFF})"
    untouched = f"language_model(model={tiny!r})"
    figures = [
        taken_together(encoder, **settings).record.validation
        for encoder, settings in ((learnt, {}), (learnt, {"permuted": True}), (untouched, {}))
    ]
    assert figures[0] > max(figures[1:]) + 0.05
    assert figures[1] < figures[2] + 0.05


@pytest.mark.parametrize("system", [SASRec, GRU4Rec])
@pytest.mark.parametrize("by_text", [True, False])
def test_the_output_side_learns_with_and_without_texts(system: type[SASRec], by_text: bool) -> None:
    text = torch.randn(5, 3) if by_text else None
    settings = NextItemSettings(width=4, layers=1)
    items = ItemVectors(5, 4, text, "linear" if by_text else "none", 0.0 if by_text else 1.0)
    network = system.network(items, settings)
    network.match(torch.randn(2, 4), torch.arange(5)).sum().backward()
    [weights] = items.adapter.parameters() if items.adapter is not None else [items.learned.weight]
    assert weights.grad is not None
    assert bool((weights.grad[:4].abs() > 0).any())


def test_the_mask_is_really_lifted(tiny: str) -> None:
    model = load_language_model(HuggingFaceModel(kind="huggingface", path=tiny)).model
    rows = torch.tensor([[3, 4, 5, 6, 0], [3, 4, 5, 7, 0]])
    real = torch.tensor([[True] * 4 + [False]] * 2)
    by_its_own, lifted = (
        model.base_model(input_ids=rows, attention_mask=mask, use_cache=False).last_hidden_state
        for mask in (real.long(), lifted_mask(real, model.dtype))
    )
    assert torch.equal(by_its_own[0, :3], by_its_own[1, :3])
    for place in range(3):
        assert not torch.allclose(lifted[0, place], lifted[1, place], atol=1e-4)
    shorter = model.base_model(
        input_ids=rows[:1, :4], attention_mask=lifted_mask(real[:1, :4], model.dtype), use_cache=False
    ).last_hidden_state
    assert torch.allclose(shorter[0], lifted[0, :4], atol=1e-5)


def test_hidden_tokens_are_asked_for_with_the_mask_lifted_and_titles_without(tiny: str) -> None:
    model = load_language_model(HuggingFaceModel(kind="huggingface", path=tiny)).model
    ids, real = torch.tensor([[3, 4, 5, 6], [3, 4, 5, 7]]), torch.ones(2, 4, dtype=torch.bool)
    wanted = torch.tensor([[-100, 4, -100, -100]])
    for lifted, asked in ((True, {"real": real}), (False, {})):
        losses = [
            llm2rec._token_loss(
                model,
                {name: value[row : row + 1] for name, value in (asked | {"ids": ids}).items()}
                | {"wanted": wanted},
            )
            for row in (0, 1)
        ]
        assert torch.equal(*losses) != lifted


def test_nothing_of_measured_users_is_read(tiny: str) -> None:
    """The folder's name is a hash of all that was read."""
    data, name = shop(), f"llm2rec(model={tiny!r}, csft={{'steps': 1}}, mntp={OFF}, simcse={OFF})"
    other_valid = replace(shop(7), valid_histories=tuple(histories(7, seed=3)))
    other_train = replace(data, sequences=data.sequences[1:])
    folders = []
    for each in (data, other_valid, other_train):
        encoder = open_encoder(name, 0)
        encoder.fit(encoder.keys(each.items, each.fields), each.sequences)
        folders.append(encoder._model)  # type: ignore[attr-defined]
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_interrupted_step_goes_on_and_ends_as_if_it_was_not(
    tiny: str, method: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"steps": 6, "batch_size": 8}
    chain = {"method": method, "mntp": step, "simcse": step}
    whole = vectors(fitted(tiny, histories(), **chain))
    monkeypatch.setattr(llm2rec, "_STEPS_UNSAVED", 2)
    monkeypatch.setattr(llm2rec, "_FORMAT", 0)
    judge, done = llm2rec.contrastive_loss, []

    def interrupted(*asked: object) -> torch.Tensor:
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt
        return judge(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(llm2rec, "contrastive_loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fitted(tiny, histories(), **chain)
    torch.manual_seed(1)
    again = fitted(tiny, histories(), **chain)
    assert len(done) == 4 + 4
    assert np.allclose(vectors(again), whole, atol=1e-6)
    assert not list((cache / "llm2rec").glob("*.checkpoints"))


def test_what_a_step_made_is_an_ordinary_causal_model_and_later_draws_do_not_know_of_it(tiny: str) -> None:
    settings = {"csft": {"steps": 2}, "mntp": {"steps": 2}, "simcse": {"steps": 2, "batch_size": 8}}
    torch.manual_seed(0)
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        encoder = fitted(tiny, histories(), **settings)
        drawn.append(torch.rand(1))
    assert torch.equal(*drawn)
    for folder in (Path(encoder._model), *Path(encoder._model).parent.glob("csft-*")):
        loaded = load_language_model(HuggingFaceModel(kind="huggingface", path=str(folder)))
        assert loaded.model.config.num_hidden_layers == 2
        assert not (folder / "adapter_config.json").exists()


def test_a_restored_encoder_reads_as_before(tiny: str, tmp_path: Path) -> None:
    encoder = fitted(tiny, histories(), mntp={"steps": 1})
    encoder.save(tmp_path)
    other = LLM2Rec(**encoder.settings.model_dump())
    other.restore(tmp_path)
    assert Path(other._model).parent == tmp_path
    assert np.allclose(other.encode(["dofe anvil"]), encoder.encode(["dofe anvil"]), atol=1e-6)


def test_what_nothing_can_be_learnt_from_is_told(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"histories of 2 items with texts or more.*csft: \{steps: 0\}"):
        fitted(tiny, [np.array([1], np.int32)], csft={"steps": 1})
    for step in ("mntp", "simcse"):
        with pytest.raises(DataError, match=f"{step} learns from items whose texts differ, and there are 1"):
            LLM2Rec(model=tiny, **{"csft": OFF, "mntp": OFF, "simcse": OFF} | {step: {"steps": 1}}).fit(
                ["same", "same", ""], []
            )
    with pytest.raises(
        ModelError, match="csft: the loss is no number any more; lower its setting learning_r"
    ):
        fitted(tiny, histories(4), csft={"steps": 8, "learning_rate": 1e30})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="in one process"):
        fitted(tiny, histories(4), csft={"steps": 3})


def test_a_model_whose_mask_stays_is_told(tiny: str) -> None:
    model = load_language_model(HuggingFaceModel(kind="huggingface", path=tiny)).model
    whole = model.model.forward
    model.model.forward = lambda attention_mask=None, **asked: whole(**asked)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"LlamaForCausalLM can't be lifted.*mntp out"):
        require_lifted(model)
