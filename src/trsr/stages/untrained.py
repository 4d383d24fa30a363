"""A ranking model as it stands: on this machine or behind a server, where nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trsr.artifacts import write_json
from trsr.compact.start import fresh_ranker
from trsr.config import Config
from trsr.config.evaluation import Untrained
from trsr.config.ranking import EndpointModel, HuggingFaceModel
from trsr.hf.gguf_files import is_local
from trsr.hf.loading import model_identity
from trsr.prompts.templates import RANKING_TEMPLATES, Templates
from trsr.ranking.likelihood import LikelihoodRanker
from trsr.ranking.ranker import CARD, Ranker, Scorer
from trsr.served import ServedRanker
from trsr.stages.train import LOG
from trsr.stages.work import Artifact, Made, Work


def stand(work: Work, start: Artifact[Path | None], untrained: Untrained | None = None) -> Artifact[Scorer]:
    """Give the ranking model without training, in the place of `trsr.stages.train.train`.

    `untrained` says what of it ranks, p(yes) where it is None. Only what it is goes into the folder: weights
    that have a place of their own stay there.
    """
    folder = work.folder.model
    ranks = {"by": "p_yes", "length": "sum"}
    if untrained is not None:
        ranks = {"by": untrained.by, "length": untrained.length}
    opened: list[Ranker | ServedRanker] = []

    def make(config: Config) -> Made:
        ranker = _open(config, start.value)
        opened.append(ranker)
        if isinstance(ranker, ServedRanker):
            write_json(ranker.card, folder / CARD)
        else:
            ranker.save(folder, weights=ranker.origin.base is None)
        told: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
        write_json({"pretraining": [], "fine_tuning": []}, folder / LOG)
        write_json(told | ranks, folder / CARD)
        work.say(f"  model, as it stands: {told['identity']}")
        return Made([folder])

    def load(made: Artifact[Scorer]) -> Scorer:
        ranker = opened[0] if opened else _again(work.config, made.path)
        if untrained is not None and untrained.by == "likelihood":
            assert isinstance(ranker, Ranker)  # the settings refuse servers
            return LikelihoodRanker(ranker, untrained.length)
        return ranker

    return work.step(
        "train",
        "nothing to train: the ranking model stands as it is",
        make,
        load,
        settings=("items", "prompt", "model", "training.method"),
        free=("seed", "training.seed", "summary.store", "out", "name"),
        content=[ranks, start.digest, *_outside(work.config)],
    )


def _outside(config: Config) -> list[Any]:
    """Name what comes from outside the run folder: templates, and the weights on this machine."""
    model, prompt = config.model, config.prompt
    found: list[Any] = [Templates(prompt.domain, prompt.templates).versions(RANKING_TEMPLATES)]
    if isinstance(model, HuggingFaceModel) and is_local(model.path):
        found.append(model_identity(model.path))
    return found


def _open(config: Config, start: Path | None) -> Ranker | ServedRanker:
    return ServedRanker(config) if isinstance(config.model, EndpointModel) else fresh_ranker(config, start)


def _again(config: Config, folder: Path) -> Ranker | ServedRanker:
    return ServedRanker(config) if isinstance(config.model, EndpointModel) else Ranker.load(folder)
