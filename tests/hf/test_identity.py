from __future__ import annotations

import shutil
from pathlib import Path

from trsr.hf.loading import folder_identity


def make(folder: Path, weights: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def test_a_moved_model_keeps_its_name(tmp_path: Path) -> None:
    here = make(tmp_path / "here" / "tiny", b"abc")
    there = shutil.copytree(here, tmp_path / "there" / "tiny")
    assert folder_identity(here) == folder_identity(there)
    assert folder_identity(here).startswith("tiny@folder-")


def test_two_models_of_one_name_and_size_differ(tmp_path: Path) -> None:
    assert folder_identity(make(tmp_path / "a" / "tiny", b"abc")) != folder_identity(
        make(tmp_path / "b" / "tiny", b"abd")
    )


def test_large_weights_are_told_apart_by_samples(tmp_path: Path) -> None:
    folder = make(tmp_path / "tiny", b"")
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(65 << 20)  # a sparse file of zeros, above what is read whole
    before = folder_identity(folder)
    with (folder / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"x")
    assert folder_identity(folder) != before
