from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ModelError
from trsr.models.loading import choose_device, load_language_model


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
    with pytest.raises(ModelError, match=r"model\.path: can't load .*give a folder with config\.json"):
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
