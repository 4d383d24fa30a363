"""Histories become a pre-trained compact model, prompts with known answers a fine-tuned one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import hash_path, write_json
from trsr.baselines.base import open_baseline, score_catalogue
from trsr.baselines.training_data import places, training_data
from trsr.compact.start import Log, fresh_ranker, pretrain_ranker, pretraining_settings
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.config.ranking import CompactModel, HuggingFaceModel
from trsr.config.summary import TableWriter
from trsr.data.candidates import draw_candidates
from trsr.data.dataset import Catalogue
from trsr.data.prepare import Prepared
from trsr.errors import ArtifactError, ModelError
from trsr.evaluation.catalogue import top_items
from trsr.hf import processes
from trsr.hf.gguf_files import is_local
from trsr.hf.loading import folder_identity, model_identity
from trsr.hf.trainer import tracked
from trsr.prompts.templates import Templates, ranking_templates
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.ranking.training import fine_tune
from trsr.records import CANDIDATES, HISTORY, ITEM, ITEMS, SPLIT, SUMMARY, TARGET, USER, Finding, Item, Split
from trsr.registry import BASELINES, identity
from trsr.stages.prepare import tell
from trsr.stages.work import Artifact, Made, Work

PRETRAINING_LOG: Final = "pretraining_log.json"
"""File in the folder of the pre-trained model: the losses of each phase, as they were logged."""


def learnable_histories(prepared: Prepared) -> list[list[str]]:
    """Return what models may learn from: training users' histories with targets, and the background.

    Validation and test users are not among them.
    """
    train = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value)
    own = train.select(pl.concat_list(HISTORY, TARGET)).to_series().to_list()
    return [*own, *prepared.background[ITEMS].to_list()]


def is_pretrained_here(config: Config) -> bool:
    """Say whether the model learns from histories before its fine-tuning."""
    model = config.model
    if isinstance(model, CompactModel):
        return model.start is None
    return isinstance(model, HuggingFaceModel) and bool(model.pretrain_questions)


def shown_items(config: Config, items: pl.DataFrame) -> list[Item]:
    """Give every item of the catalogue as the ranking prompt shows it."""
    shown = Catalogue(items, config.ranking_fields)
    return list(shown.items(shown.ids))


def pretrained_ranker(config: Config, prepared: Prepared, checkpoints: Path) -> tuple[Ranker, Log]:
    """Make the compact model, or question another, from the catalogue and histories to learn from."""
    whole = Catalogue(prepared.items, config.items.fields)
    shown, histories = shown_items(config, prepared.items), learnable_histories(prepared)
    return pretrain_ranker(config, shown, whole.items(whole.ids), histories, checkpoints)


def pretrain(work: Work, prepared: Artifact[Prepared]) -> Artifact[Path | None]:
    """Teach the model what comes next in histories; the compact model the catalogue, too.

    The artifact is the folder of the model; None for a model that comes from elsewhere as it is.
    """
    checkpoints = work.folder.checkpoints / "pretraining"

    def make(config: Config) -> Made:
        if not is_pretrained_here(config):
            start = config.model.start if isinstance(config.model, CompactModel) else None
            why = f"starts from {start}" if start else "the model comes from elsewhere"
            work.say(f"  nothing to do: {why}")
            return Made([])
        target = work.folder.pretrained
        with tracked(config.training.report_to, work.folder.path):
            ranker, log = pretrained_ranker(config, prepared.value, checkpoints)
        ranker.save(target)
        write_json(log, target / PRETRAINING_LOG)
        known = len(learnable_histories(prepared.value))
        work.say(f"  learnt from {known:,} histories of {prepared.value.items.height:,} items")
        return Made([target])

    return work.step(
        "pretrain",
        "teach the model what comes next",
        make,
        lambda made: made.path if made.entry.outputs else None,
        settings=(),
        # Which of these decide the result, `pretraining_settings` knows.
        free=("seed", "training", "model", "items", "prompt"),
        content=[prepared.digest, pretraining_settings(work.config), *_weights_outside(work.config)],
        scratch=(checkpoints,),
    )


LOG: Final = "training_log.json"
"""File in the model folder: ``pretraining`` and ``fine_tuning``, the losses as they were logged."""


def train(
    work: Work, prepared: Artifact[Prepared], summaries: Artifact[pl.DataFrame], start: Artifact[Path | None]
) -> Artifact[Ranker]:
    """Fine-tune the ranking model on answers yes or no; `start` is what `pretrain` gave."""
    folder, checkpoints = work.folder, work.folder.checkpoints / "fine_tuning"

    def make(config: Config) -> Made:
        ranker = fresh_ranker(config, start.value, catalogue=shown_items(config, prepared.value.items))
        with tracked(config.training.report_to, folder.path):
            log = fine_tune_ranker(ranker, config, prepared.value, summaries.value, checkpoints)
        _tell(work, config, ranker, log)
        if processes.is_main():
            ranker.save(folder.model)
            begun = _pretraining(config, start.value)
            write_json({"pretraining": begun, "fine_tuning": log}, folder.model / LOG)
        found = _cut_texts(work.config, ranker, summaries.value)
        tell(found, work.say)
        return Made([folder.model], findings=found)

    return work.step(
        "train",
        "fine-tune the ranking model on answers yes or no",
        make,
        lambda made: Ranker.load(made.path),
        settings=("seed", "items", "prompt", "model", "training", "candidates"),
        # An own training seed that is the run's seed makes the same model.
        free=("evaluation.batch_tokens", "training.seed", "training.report_to"),
        content=[
            work.config.training_seed,
            prepared.digest,
            summaries.digest,
            start.digest,
            *outside(work.config),
        ],
        scratch=(folder.checkpoints,),
    )


def fine_tune_ranker(
    ranker: Ranker, config: Config, prepared: Prepared, summaries: pl.DataFrame, checkpoints: Path
) -> list[dict[str, float]]:
    """Train a ranker in place, on the training users; returned is the log, see `fine_tune`.

    A training that was killed goes on from what lies in `checkpoints`.
    """
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    drawn = {"both": drawn_both_ways, "retrieved": retrieved}.get(config.training.sampler)
    offered = drawn(config, prepared) if drawn else None
    return fine_tune(
        ranker,
        ranking_tasks(prepared, summaries, catalogue, Split.TRAIN, offered),
        ranking_tasks(prepared, summaries, catalogue, Split.VALID),
        config.training,
        checkpoints,
        config.training_seed,
        config.evaluation.batch_tokens,
    )


def _cut_texts(config: Config, ranker: Ranker, summaries: pl.DataFrame) -> tuple[Finding, ...]:
    """Count the texts of a table that prompts cut: nobody has asked who wrote them to be brief."""
    if not isinstance(config.summary.writer, TableWriter):
        return ()
    texts = summaries[SUMMARY].to_list()
    if not (cut := sum(map(ranker.prompt.is_cut, texts))):
        return ()
    message = (
        f"{cut:,} of {len(texts):,} texts are longer than prompt.summary_tokens "
        f"({config.prompt.summary_tokens}): prompts leave out their ends"
    )
    return (Finding("cut-text", message, cut, "noted"),)


def _tell(work: Work, config: Config, ranker: Ranker, log: Sequence[Mapping[str, float]]) -> None:
    if isinstance(config.model, HuggingFaceModel):
        licence = f", licence {ranker.origin.licence}" if ranker.origin.licence else ""
        work.say(f"  model: {ranker.origin.identity}{licence}")
    fitted = ranker.prompt.prompting.max_tokens
    if fitted < config.prompt.max_tokens:
        work.say(
            f"  prompt.max_tokens {config.prompt.max_tokens} is lowered to {fitted}: the model has "
            f"{fitted + 1} positions, one of them for the answer"
        )
    work.say(f"  prompts: {ranker.plan.reason}")
    sums = [entry["valid_recall_sum"] for entry in log if "valid_recall_sum" in entry]
    if sums:
        best = max(range(len(sums)), key=sums.__getitem__)
        work.say(f"  best epoch {best + 1} of {len(sums)}: validation Recall@3+5+10 {sums[best]:.3f}")


def ranking_tasks(
    prepared: Prepared,
    summaries: pl.DataFrame,
    catalogue: Catalogue,
    split: Split,
    candidates: pl.DataFrame | None = None,
) -> list[RankingUser]:
    """Join what the model is to see of each user of one split, by rising user id.

    `summaries` has `USER` and `SUMMARY`, `candidates` has `USER` and `CANDIDATES`; None for the frozen ones.
    Raises `ArtifactError` when a user has no row among the summaries.
    """
    offered = prepared.candidates if candidates is None else candidates
    users = (
        prepared.histories.filter(pl.col(SPLIT) == split.value)
        .join(offered.select(USER, CANDIDATES), on=USER, how="left")
        .join(summaries.select(USER, SUMMARY), on=USER, how="left")
        .sort(USER)
    )
    lacking = users.filter(pl.col(SUMMARY).is_null() | pl.col(CANDIDATES).is_null())
    if not lacking.is_empty():
        message = (
            f"{lacking.height} users have no summary or no candidates, the first is {lacking[USER][0]!r}; "
            "run `trsr summarize` again"
        )
        raise ArtifactError(message)
    columns = users.select(USER, SUMMARY, HISTORY, CANDIDATES, TARGET).iter_rows()
    return [
        RankingUser(
            user,
            summary,
            catalogue.items(history),
            catalogue.items(candidates),
            candidates.index(target),
        )
        for user, summary, history, candidates, target in columns
    ]


def drawn_both_ways(config: Config, prepared: Prepared) -> pl.DataFrame:
    """Give training users the negatives of both samplers, as `USER` and `CANDIDATES`.

    The frozen ones come first, then those drawn the other way that aren't among them.
    """
    histories = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value)
    sampler: Sampler = "popularity" if config.candidates.sampler == "uniform" else "uniform"
    rule = config.candidates.model_copy(update={"sampler": sampler})
    other = draw_candidates(histories, prepared.items, rule, config.training_seed, prepared.background)
    joined = prepared.candidates.select(USER, CANDIDATES).join(
        other.select(USER, pl.col(CANDIDATES).alias("other")), on=USER, maintain_order="left"
    )
    both = pl.col(CANDIDATES).list.concat("other").list.unique(maintain_order=True)
    return joined.select(USER, both.alias(CANDIDATES))


def retrieved(config: Config, prepared: Prepared) -> pl.DataFrame:
    """Give training users what `training.retriever` finds for them, as `USER` and `CANDIDATES`.

    The target stands before the best `candidates.negatives` items outside the history, as the ranker is to
    learn to put it first; who asks it later gets the retriever's list without anything put in.
    """
    retriever = open_baseline(config.training.retriever, config.training_seed)
    retriever.fit(training_data(prepared, config.items.fields))
    users = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value).sort(USER)
    ids, names = prepared.items[ITEM], users[USER].to_list()
    histories = places(users[HISTORY], ids)
    # With its target left out, a user's list has one item less to choose from.
    known = places(users.select(pl.concat_list(HISTORY, TARGET).alias(ITEMS))[ITEMS], ids)
    rows = []
    for part, scores in score_catalogue(retriever, names, histories, len(ids)):
        draw = np.random.default_rng(config.training_seed)
        rows += list(top_items(scores, known[part], config.candidates.negatives, draw))
    found = [[target, *ids.gather(row)] for target, row in zip(users[TARGET], rows, strict=True)]
    return pl.DataFrame(
        {USER: names, CANDIDATES: found}, schema={USER: pl.String, CANDIDATES: pl.List(pl.String)}
    )


def outside(config: Config) -> list[Any]:
    """Give the hashes of what training reads from outside the run folder: weights and templates."""
    templates = Templates(config.prompt.domain, config.prompt.templates)
    retriever = config.training.retriever if config.training.sampler == "retrieved" else None
    asked = [identity("baseline", retriever, BASELINES)] if retriever else []
    return [
        templates.versions(ranking_templates(config.prompt.nearest_items)),
        *asked,
        *_weights_outside(config),
    ]


def _weights_outside(config: Config) -> list[str]:
    found = []
    model = config.model
    if isinstance(model, HuggingFaceModel) and is_local(model.path):
        found.append(_weights(model.path))
    if isinstance(model, CompactModel) and model.start is not None and model.start.exists():
        found.append(hash_path(model.start))
    return found


def _weights(path: str) -> str:
    """Name the weights on this machine, which may be others than those of the last run."""
    try:
        return model_identity(path)
    except (OSError, ValueError, ModelError):  # an adapter without its base: training tells
        if not Path(path).is_dir():
            raise
        return folder_identity(Path(path))


def _pretraining(config: Config, start: Path | None) -> list[dict[str, float]]:
    """Read the losses that the model's pre-training logged, if it had one."""
    path = config.model.start if isinstance(config.model, CompactModel) else None
    path = path or start
    if path is None or not (path / PRETRAINING_LOG).exists():
        return []
    log: Log = json.loads((path / PRETRAINING_LOG).read_text(encoding="utf-8"))
    return log["next_item"] or log["questions"]
