"""What another tool loads scores as the ranker does, or isn't written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_shop
import torch
from sentence_transformers import CrossEncoder
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
)

from trsr.config.ranking import Lora
from trsr.errors import ArtifactError, ModelError
from trsr.ranking import export
from trsr.ranking.export import TOLERANCE, export_ranker
from trsr.ranking.ranker import Origin, Ranker
from trsr.records import Tool


def adapted(architecture: str = "qwen2") -> Ranker:
    """A ranker with an adapter that does something."""
    ranker = tiny_shop.ranker(architecture, kind="compact" if architecture == "qwen2" else "tiny")
    ranker.adapt(Lora())
    with torch.no_grad():
        for name, parameter in ranker.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(1))
    return ranker


def asked(ranker: Ranker) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Pairs of users who are no probes, and p(yes) of them."""
    users = tiny_shop.users(3)
    pairs = [
        (ranker.prompt.prefix(user.summary, user.history).text, ranker.prompt.suffix(item).text)
        for user in users
        for item in user.candidates
    ]
    return pairs, np.concatenate(ranker.score(users))


def test_a_cross_encoder_says_p_yes(tmp_path: Path) -> None:
    ranker = adapted()
    pairs, p_yes = asked(ranker)
    prompts, difference = export_ranker(ranker, tiny_shop.ITEMS, Tool.SENTENCE_TRANSFORMERS, tmp_path / "out")
    assert prompts == 100
    assert difference < TOLERANCE
    loaded = CrossEncoder(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(loaded.predict(pairs), p_yes, atol=1e-5)
    assert np.ptp(p_yes) > 0.01
    document = ranker.prompt.suffix(tiny_shop.ITEMS[-1]).text
    assert f"```text\n{document}\n```" in (tmp_path / "out" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "opt"])
def test_a_classifier_says_the_log_odds(architecture: str, tmp_path: Path) -> None:
    ranker = adapted(architecture)
    pairs, p_yes = asked(ranker)
    export_ranker(ranker, tiny_shop.ITEMS, Tool.SEQUENCE_CLASSIFICATION, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert model.config.num_labels == 1
    with torch.no_grad():
        batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        scores = model(**batch).logits.sigmoid().flatten()
    np.testing.assert_allclose(scores, p_yes, atol=1e-5)


def small(model: type[PreTrainedModel], config: type, **special: object) -> Ranker:
    words = tiny_shop.tokenizer()
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    made = model(config(vocab_size=len(words), pad_token_id=1, **shape, **special))
    return Ranker(made, words, tiny_shop.PROMPTING, 12, Origin("tiny", "tiny"))


def capped() -> Ranker:
    return small(
        Gemma2ForCausalLM, Gemma2Config, num_key_value_heads=2, head_dim=8, final_logit_softcapping=5.0
    )


def biased() -> Ranker:
    ranker = small(PhiForCausalLM, PhiConfig)
    with torch.no_grad():
        ranker.model.get_output_embeddings().bias[ranker.answers.yes] = 1.0
    return ranker


@pytest.mark.parametrize(("make", "reason"), [(capped, "capped"), (biased, "bias")])
def test_a_head_that_is_no_difference_of_rows_goes_whole_or_not_at_all(
    make: object, reason: str, tmp_path: Path
) -> None:
    ranker = make()  # type: ignore[operator]
    with pytest.raises(ModelError, match=f"one label: .*{reason}.* export it --to sentence-transformers"):
        export_ranker(ranker, tiny_shop.ITEMS, Tool.SEQUENCE_CLASSIFICATION, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    export_ranker(ranker, tiny_shop.ITEMS, Tool.SENTENCE_TRANSFORMERS, tmp_path / "out")


def test_a_folder_that_scores_otherwise_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = export._write_classifier

    def wrong(ranker: Ranker, *rest: object) -> None:
        written(ranker, *rest)  # type: ignore[arg-type]
        model = AutoModelForSequenceClassification.from_pretrained(rest[-1])
        with torch.no_grad():
            model.score.weight.mul_(1.5)
        model.save_pretrained(rest[-1])

    monkeypatch.setattr(export, "_write_classifier", wrong)
    with pytest.raises(ModelError, match=r"of 100 prompts score otherwise there by more than 0\.001"):
        export_ranker(adapted(), tiny_shop.ITEMS, Tool.SEQUENCE_CLASSIFICATION, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_lies_there_stays(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ArtifactError, match="isn't an empty folder; name another with --out"):
        export_ranker(tiny_shop.ranker(), tiny_shop.ITEMS, Tool.SEQUENCE_CLASSIFICATION, tmp_path)
    assert (tmp_path / "notes").read_text() == "mine"
