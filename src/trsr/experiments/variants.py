"""Variants of the language model: the run's settings with some changed, trained on the same users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.evaluation import LanguageModelName
from trsr.data.prepare import Prepared
from trsr.experiments.progress import Job, Progress
from trsr.experiments.progress import Work as Sort
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import SeedScores
from trsr.experiments.systems import LanguageModel
from trsr.stages.pretrain import pretrain
from trsr.stages.summarize import summarize
from trsr.stages.train import train
from trsr.stages.work import Artifact, Work


@dataclass(frozen=True, slots=True)
class Variant:
    """The run's settings with some changed, each by its dotted name; `name` is also that of its folder."""

    name: str
    overrides: Mapping[str, Any]


def form(config: Config, name: LanguageModelName) -> Variant:
    """Return one of the forms of the language model.

    ``tallrec`` has the whole history in the prompt and no summary (Bao et al., TALLRec, RecSys
    2023); the others have a summary and the newest items.

    Examples
    --------
    >>> dict(form(Config(), "tallrec").overrides)
    {'summary.paradigm': 'none', 'prompt.recent_items': 25}
    """
    if name == "tallrec":
        return Variant(name, {"summary.paradigm": "none", "prompt.recent_items": config.history.max - 1})
    return Variant(name, {"summary.paradigm": name})


def configure(config: Config, variant: Variant, seed: int, out: Path) -> Config:
    """Apply a variant's settings and a training seed.

    The store of model answers stays the run's, so that no answer is paid for twice.

    Examples
    --------
    >>> made = configure(Config(), form(Config(), "tallrec"), 7, Path("runs/x"))
    >>> made.summary.paradigm, made.training_seed, made.seed
    ('none', 7, 0)
    """
    values = config.model_dump(mode="json")
    overrides = {"out": str(out), "summary.store": config.store_url, "training.seed": seed}
    for key, value in {**overrides, **variant.overrides}.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = deepcopy(value)
    return Config.model_validate(values)


def train_variant(
    work: Work,
    prepared: Artifact[Prepared],
    variant: Variant,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> LanguageModel:
    """Summarise, pre-train and fine-tune one variant with one seed, in a folder of its own beneath `work`'s.

    What the run or another variant has made for the same settings already is used where it lies: forms share
    the data, seeds share the summaries, and all forms of one seed share the pre-training.
    """
    folder = RunFolder(work.folder.path / variant.name / f"run-{seed}")
    settings = configure(work.config, variant, seed, folder.path)
    run = RunFolder(work.config.folder)
    places = dict.fromkeys((work.folder.path, run.path / "comparison"))
    others = [RunFolder(path) for place in places for path in sorted(place.glob("*/run-*"))]
    own = Work(settings, folder, lambda line: say(f"    {line}"), sources=(run, *others))
    summaries = summarize(own, prepared)
    start = pretrain(own, prepared)
    return LanguageModel(settings, summaries, start, train(own, prepared, summaries, start))


def answer_variant(
    work: Work,
    prepared: Artifact[Prepared],
    protocol: EvaluationProtocol,
    variant: Variant,
    seed: int,
    progress: Progress,
) -> tuple[LanguageModel, SeedScores]:
    """Train one variant with one seed and score what the protocol asks, unless it was done before.

    `work` is that of the comparison or the ablation, whose folder keeps the scores.
    """
    with progress.job(Job(Sort.LANGUAGE_MODEL, variant.name, seed)) as job:
        model = train_variant(work, prepared, variant, seed, job.tell)
        scored = model.scores(work, f"{variant.name}/seed-{seed}", protocol, begin=job.begin)
        job.seconds = scored.value.info.seconds
    return model, scored.value
