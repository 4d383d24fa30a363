"""Variants of the language model: one run each under changed settings, on the same users and candidates.

`answer_variant` is the piece that comparisons and ablations share: settings that differ, a seed,
and the answers come back, from the shelf when they were made before.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from trsr import __version__
from trsr.artifacts import RunFolder, hash_path, hash_value, read_parquet
from trsr.config import Config
from trsr.config.evaluation import LanguageModelName
from trsr.config.ranking import CompactModel
from trsr.data.catalogue import Catalogue
from trsr.experiments.progress import Job, Progress, Work
from trsr.experiments.protocol import Contest, Places, require_same_candidates
from trsr.experiments.scores import Card, Floats, Scored, Shelf, from_frame, to_frame
from trsr.pipeline import STAGES, run
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import SPLIT, SUMMARY, USER, Split
from trsr.stages.stage import Stage

_LEARNING: Final = ("summarize", "pretrain", "train")
_BORROWED: Final = ("prepare", "summarize", "pretrain")
_LAST: Final = "train"


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


def answer_variant(
    config: Config,
    contest: Contest,
    shelf: Shelf,
    variant: Variant,
    seed: int,
    progress: Progress,
    say: Callable[[str], None] = print,
) -> Scored:
    """Train one variant with one seed and score what the contest asks, unless the shelf has the answers.

    Raises `ArtifactError` when the variant's run has other users or candidates than the contest.
    """
    job = Job(Work.LANGUAGE_MODEL, variant.name, seed)
    found = shelf.find(key(variant.name, seed), fingerprint(config, contest, variant, seed))
    if found is not None:
        progress.skip(job, found[1].training_seconds + found[1].scoring_seconds)
        return from_frame(*found, contest)
    with progress.job(job):
        return _answer(config, contest, shelf, variant, seed, say)


def _answer(
    config: Config,
    contest: Contest,
    shelf: Shelf,
    variant: Variant,
    seed: int,
    say: Callable[[str], None],
) -> Scored:
    name, made_for = key(variant.name, seed), fingerprint(config, contest, variant, seed)
    settings = train_variant(config, contest, shelf, variant, seed, say)
    started = time.monotonic()
    scores = {}
    for split, panel in contest.panels.items():
        offered = np.concatenate([panel.candidates[sampler] for sampler in contest.samplers], axis=1)
        flat = score_lists(settings, contest, split, list(offered), f"{variant.name}, seed {seed}: {split}")
        width = [panel.candidates[sampler].shape[1] for sampler in contest.samplers]
        parts = np.split(np.stack(flat), np.cumsum(width)[:-1], axis=1)
        scores[split] = dict(zip(contest.samplers, parts, strict=True))
    card = _card(settings, contest, time.monotonic() - started)
    scored = Scored(scores, {}, card)
    if any(stage.is_partial(RunFolder(settings.folder)) for stage in _stages()):
        say(f"    {name}: something is missing that a further run may add; it is asked again next time")
    else:
        shelf.put(name, made_for, to_frame(scored, contest), card)
    return scored


def key(name: str, seed: int) -> str:
    """Name the answers of one system and seed on the shelf."""
    return f"{name}/seed-{seed}"


def fingerprint(config: Config, contest: Contest, variant: Variant, seed: int) -> str:
    """Hash of everything that a variant's answers depend on: the contest, and the settings of its stages."""
    settings = configure(config, variant, seed, Path("run"))
    return hash_value(
        {
            "version": __version__,
            "contest": contest.fingerprint,
            "settings": {stage.name: stage.settings(settings) for stage in _stages()},
            "inputs": [
                hash_path(path)
                for stage in _stages()
                if stage.name != "prepare"  # its files are in the contest
                for path in stage.inputs(settings)
                if path.exists()
            ],
        }
    )


def _stages() -> tuple[Stage, ...]:
    """Return the stages that a variant runs, in their order."""
    names = [stage.name for stage in STAGES]
    return STAGES[: names.index(_LAST) + 1]


def train_variant(
    config: Config,
    contest: Contest,
    shelf: Shelf,
    variant: Variant,
    seed: int,
    say: Callable[[str], None],
) -> Config:
    """Run the stages up to training, in a folder of the variant's own; complete ones are skipped.

    Returned are the variant's settings, whose folder holds the trained model.
    """
    settings = settings_of(config, shelf, variant, seed)
    folder = RunFolder(settings.folder)
    # Forms share the data, seeds share the summaries, and all forms of one seed share the pre-training.
    _borrow(settings, folder, _sources(config, shelf))
    run(settings, until=_LAST, serve=False, say=lambda line: say(f"    {line}"))
    require_same_candidates(contest, folder)
    return settings


def _sources(config: Config, shelf: Shelf) -> list[RunFolder]:
    """Give all runs that may have finished a stage already: the run itself, and variants of it."""
    shelves = dict.fromkeys((shelf.path, RunFolder(config.folder).path / "comparison"))
    variants = [path for place in shelves for path in sorted(place.glob("*/run-*"))]
    return [RunFolder(path) for path in (config.folder, *variants)]


def settings_of(config: Config, shelf: Shelf, variant: Variant, seed: int) -> Config:
    """Return a variant's settings; its run lies beside its answers."""
    return configure(config, variant, seed, shelf.path / variant.name / f"run-{seed}")


def score_lists(
    settings: Config,
    contest: Contest,
    split: Split,
    offered: Sequence[Places],
    title: str,
) -> list[Floats]:
    """Score lists of candidates, which may repeat items, with a trained variant; `title` names the progress.

    `settings` are the variant's own, as `configure` makes them. `offered` are places in the catalogue, one
    array a user of the split; returned is p(yes) of the same form.
    """
    panel = contest.panels[split]
    folder = RunFolder(settings.folder)
    catalogue = Catalogue(contest.prepared.items, settings.ranking_fields)
    distinct = [np.unique(row) for row in offered]
    summaries = dict(
        read_parquet(folder.require(folder.summaries, "summarize")).select(USER, SUMMARY).iter_rows()
    )
    everything = catalogue.items(catalogue.ids)
    tasks = [
        RankingUser(
            user,
            summaries[user],
            tuple(everything[place] for place in history),
            tuple(everything[place] for place in row),
        )
        for user, history, row in zip(panel.users, panel.histories, distinct, strict=True)
    ]
    ranker = _load(folder.require(folder.model, "train"), folder.stages()["train"].fingerprint)
    scores = ranker.score(tasks, settings.evaluation.batch_tokens, title=title)
    return [
        p_yes[np.searchsorted(items, row)]
        for p_yes, items, row in zip(scores, distinct, offered, strict=True)
    ]


@lru_cache(maxsize=1)
def _load(path: Path, trained: str) -> Ranker:
    """Keep the ranker that was used last; a training anew under the same path is another one."""
    return Ranker.load(path)


def _borrow(settings: Config, folder: RunFolder, sources: Iterable[RunFolder]) -> None:
    """Copy what other runs have finished for exactly these settings and inputs, stage by stage."""
    others = [source for source in sources if source.path != folder.path and source.manifest.exists()]
    for stage in _stages():
        if stage.name not in _BORROWED:
            continue
        made_for = stage.fingerprint(settings, folder)
        if folder.is_complete(stage.name, made_for):
            continue
        for source in others:
            if source.is_complete(stage.name, made_for) and not stage.is_partial(source):
                _copy(stage.name, source, folder)
                break


def _copy(stage: str, source: RunFolder, target: RunFolder) -> None:
    entry = source.stages()[stage]
    paths = [target.path / name for name in entry.outputs]
    for name, path in zip(entry.outputs, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if (source.path / name).is_dir():
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(source.path / name, path)
        else:
            shutil.copyfile(source.path / name, path)
    target.mark_complete(stage, entry.fingerprint, paths, entry.seconds)


def _card(settings: Config, contest: Contest, scoring_seconds: float) -> Card:
    stages = RunFolder(settings.folder).stages()
    seconds = {name: stages[name].seconds for name in _LEARNING if name in stages}
    users = contest.prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value).height
    training = settings.training
    drawn = "uniform and popularity" if training.sampler == "both" else settings.candidates.sampler
    compact = isinstance(settings.model, CompactModel)
    pretrained = f"; pre-trained on {len(contest.data.sequences):,} histories" if compact else ""
    return Card(
        training_seconds=sum(seconds.values()),
        scoring_seconds=scoring_seconds,
        examples=min(users, training.max_users or users),
        negatives=f"{training.negatives} a positive, {drawn}{pretrained}",
        details={"epochs": training.epochs, "loss": training.loss, "seconds": seconds},
    )
