"""Systems at work: trained, asked about candidates and the catalogue, their scores kept or imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import unquote

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, hash_value, read_parquet, write_parquet
from trsr.baselines.base import Baseline, baseline_class, open_baseline, score_catalogue, score_places
from trsr.baselines.hybrids import Joined
from trsr.baselines.neural.system import Sequential
from trsr.baselines.training_data import NOTHING
from trsr.config import Config
from trsr.config.evaluation import BaselineName, Drawn, Sampler
from trsr.config.summary import TableWriter
from trsr.data.dataset import Catalogue
from trsr.evaluation.catalogue import CatalogueRanks, place_in_catalogue, top_items
from trsr.experiments.protocol import EvaluationProtocol, Places, SplitData
from trsr.experiments.scores import (
    Floats,
    InCatalogue,
    ScoreInfo,
    SeedScores,
    SystemScores,
    kept_scores,
    lists,
    table,
)
from trsr.interop.candidates import imported_path
from trsr.ranking.ranker import CandidateScorer, Ranker, score_lists
from trsr.records import (
    BLOCK_SUMMARIES,
    CANDIDATES,
    ITEM,
    MEASURED,
    NO_SUMMARY,
    P_YES,
    PROFILES,
    SCORE,
    SPLIT,
    SUMMARY,
    USER,
    Split,
)
from trsr.registry import BASELINES, identity, path_name
from trsr.report.results import Kind
from trsr.served import ServedOrder
from trsr.stages.train import is_pretrained_here
from trsr.stages.work import Artifact, Made, Work


class LanguageModel:
    """The language model in one form, trained: its settings, what it is told of each user, and the ranker.

    Parameters
    ----------
    config
        The form's own settings.
    summaries
        The summaries table.
    start
        What the ranker began as; see `trsr.stages.train`.
    ranker
        The fine-tuned model, or one as it stands; it is loaded once, when first asked.
    """

    def __init__(
        self,
        config: Config,
        summaries: Artifact[pl.DataFrame],
        start: Artifact[Path | None],
        ranker: Artifact[Ranker] | Artifact[CandidateScorer],
    ) -> None:
        self.config = config
        self.summaries = summaries
        self.start = start
        self.ranker = ranker

    @property
    def name(self) -> str:
        """What tables call it: how it is told of a long history."""
        told = self.config.summary
        if told.paradigm == "none":
            return NO_SUMMARY
        return PROFILES if isinstance(told.writer, TableWriter) else told.paradigm

    @property
    def digest(self) -> str:
        """Hash of all that its scores depend on."""
        return hash_value([self.summaries.digest, self.ranker.digest, self.config.ranking_fields])

    @cached_property
    def told(self) -> dict[str, str]:
        """The summary of every user."""
        return dict(self.summaries.value.select(USER, SUMMARY).iter_rows())

    def system(self, scored: SeedScores, seed: int) -> SystemScores:
        """Give the scores of one seed as those of a system."""
        steps = dict(self.summaries.value.select(USER, BLOCK_SUMMARIES).iter_rows())
        kind = Kind.LANGUAGE_MODEL
        return SystemScores(self.name, kind, (seed,), (scored,), summaries=self.told, steps=steps)

    def scores(
        self,
        work: Work,
        name: str,
        protocol: EvaluationProtocol,
        *,
        purpose: str = "",
        begin: Callable[[], object] = bool,
    ) -> Artifact[SeedScores]:
        """Score the frozen candidates of all samplers, or give the scores that are kept.

        `name` is that of the file, `begin` is called when there is something to do.
        """

        def answer(config: Config) -> SeedScores:
            begin()
            return self._answer(protocol, name)

        return kept_scores(
            work,
            name,
            protocol,
            answer,
            purpose=purpose,
            content=self.digest,
        )

    def score(
        self, protocol: EvaluationProtocol, split: Split, offered: Sequence[Places], title: str
    ) -> list[Floats]:
        """Score lists of candidates, which may repeat items; `title` names the progress.

        `offered` are places in the catalogue, one array a user of the split; p(yes) has the same form.
        """
        data, config = protocol.splits[split], self.config
        if config.cluster.kind == "ray" and config.trains:
            return self._score_on_cluster(protocol, split, offered)
        return score_lists(
            self.ranker.value,
            Catalogue(protocol.prepared.items, config.ranking_fields),
            self.told,
            data.users,
            data.histories,
            offered,
            batch_tokens=config.evaluation.batch_tokens,
            title=title,
        )

    def _answer(self, protocol: EvaluationProtocol, name: str) -> SeedScores:
        started = time.monotonic()
        scores: dict[Split, dict[Sampler, Floats]] = {split: {} for split in protocol.splits}
        for split, data in protocol.splits.items():
            title, tables = f"{unquote(name).replace('/', ', ')}: {split}", data.candidates
            # All samplers' candidates at once, unless they are put into one order: a user is read once.
            alone = isinstance(self.ranker.value, ServedOrder)
            for group in [[sampler] for sampler in tables] if alone else [list(tables)]:
                offered = np.concatenate([tables[sampler] for sampler in group], axis=1)
                asked, found = offered != NOTHING, np.full(offered.shape, -np.inf)
                flat = self.score(protocol, split, [row[row != NOTHING] for row in offered], title)
                found[asked] = np.concatenate([*flat, np.empty(0)])
                widths = np.cumsum([tables[sampler].shape[1] for sampler in group])[:-1]
                scores[split] |= zip(group, np.split(found, widths, axis=1), strict=True)
        return SeedScores(scores, {}, self._info(protocol, time.monotonic() - started))

    def _score_on_cluster(
        self, protocol: EvaluationProtocol, split: Split, offered: Sequence[Places]
    ) -> list[Floats]:
        from trsr.cluster.ray import score_on_cluster  # noqa: PLC0415  an optional extra

        items = protocol.prepared.items
        told = protocol.prepared.histories.filter(pl.col(SPLIT) == split.value).sort(USER)
        asked = [items[ITEM].gather(row).to_list() for row in offered]
        users = told.with_columns(pl.Series(CANDIDATES, asked, dtype=pl.List(pl.String))).join(
            self.summaries.value.select(USER, SUMMARY), on=USER, maintain_order="left"
        )
        scored = score_on_cluster(self.config, self.ranker.path, items, users)
        return [np.asarray(row, dtype=np.float64) for row in scored[P_YES].to_list()]

    def _info(self, protocol: EvaluationProtocol, scoring_seconds: float) -> ScoreInfo:
        seconds = {
            "summarize": self.summaries.entry.seconds,
            "pretrain": self.start.entry.seconds,
            "train": self.ranker.entry.seconds,
        }
        if not self.config.trains:
            told = {"seconds": seconds, **getattr(self.ranker.value, "told", {})}
            return ScoreInfo(sum(seconds.values()), scoring_seconds, details=told)
        users = protocol.prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value).height
        training, candidates = self.config.training, self.config.candidates
        drawn = {"both": "uniform and popularity", "retrieved": f"retrieved by {training.retriever}"}.get(
            training.sampler, candidates.sampler
        )
        pretrained = (
            f"; pre-trained on {len(protocol.data.sequences):,} histories"
            if is_pretrained_here(self.config)
            else ""
        )
        return ScoreInfo(
            training_seconds=sum(seconds.values()),
            scoring_seconds=scoring_seconds,
            examples=min(users, training.max_users or users),
            negatives=f"{training.negatives} a positive, {drawn}{pretrained}",
            details={"epochs": training.epochs, "loss": training.loss, "seconds": seconds},
        )


class Baselines:
    """The systems without a language model.

    A fitted system stays in memory, as the items that a two-stage ranking hands on are known only when all
    have been asked. Those that can be saved and that `kept` names are written too, so that a comparison that
    was killed in between needn't train them again.
    """

    def __init__(self, work: Work, protocol: EvaluationProtocol, kept: Sequence[BaselineName]) -> None:
        self._work = work
        self._protocol = protocol
        self._kept = frozenset(kept)
        self._fitted: dict[tuple[BaselineName, int], tuple[Baseline, float]] = {}

    def require(self, names: Sequence[BaselineName]) -> None:
        """Raise `ConfigError` when one of the systems lacks a setting that it needs."""
        for name in names:
            open_baseline(name, self._work.config.seed)

    def scores(
        self,
        file: str,
        name: BaselineName,
        seed: int,
        depth: int | None = None,
        *,
        purpose: str = "",
        begin: Callable[[], object] = bool,
    ) -> Artifact[SeedScores]:
        """Score the frozen candidates, or give the scores that are kept; `file` is the name of their file.

        With a `depth` the whole catalogue is ranked too, and so many items are retrieved, which may be 0.
        `begin` is called when there is something to do.
        """

        def answer(config: Config) -> SeedScores:
            begin()
            return self._answer(name, seed, depth)

        return kept_scores(
            self._work,
            file,
            self._protocol,
            answer,
            purpose=purpose,
            settings=("items.fields", "seed"),
            content=[*self._identity(name, seed), depth],
        )

    def system(self, name: BaselineName, seed: int, purpose: str) -> SystemScores:
        """Score the frozen candidates, and where there is a fused ranker the catalogue, in one step."""
        own = training_seeds(name, (seed,), self._work.config.seed)
        items = self._work.config.fusion.items if self._work.config.fusion.companions else 0
        depth = retrieval_depth(self._protocol, items) if items else None
        scored = self.scores(path_name(name), name, own[0], depth, purpose=purpose)
        return SystemScores(name, Kind.BASELINE, own, (scored.value,))

    def score(self, name: BaselineName, seed: int, split: Split, candidates: Places) -> Floats:
        """Score other candidates with a fitted system, ``(n_users, n_candidates)``."""
        data = self._protocol.splits[split]
        return score_places(self.fitted(name, seed), data.users, data.histories, candidates)

    def fitted(self, name: BaselineName, seed: int) -> Baseline:
        """Give a system that has learnt."""
        return self._fit(name, seed)[0]

    def _identity(self, name: BaselineName, seed: int) -> list[Any]:
        """Say what a system is: its settings, its source where it is somebody's own, and the seed."""
        return [identity("baseline", name, BASELINES), seed]

    def _fit(self, name: BaselineName, seed: int) -> tuple[Baseline, float]:
        if (name, seed) not in self._fitted:
            started = time.monotonic()
            kept = name in self._kept
            baseline = self._saved(name, seed).value if kept else self._trained(name, seed)
            self._fitted[name, seed] = baseline, time.monotonic() - started
            for note in baseline.notes:
                self._work.say(f"    {name}: {note}")
        return self._fitted[name, seed]

    def _trained(self, name: BaselineName, seed: int) -> Baseline:
        """Train a system; a hybrid of systems that take part themselves takes them as they are."""
        baseline = open_baseline(name, seed)
        if isinstance(baseline, Joined):
            own = self._work.config.seed
            seeds = [training_seeds(part, (seed,), own)[0] for part in baseline.parts]
            parts = [self.fitted(part, of_part) for part, of_part in zip(baseline.parts, seeds, strict=True)]
            baseline.join(parts, self._protocol.data)
        else:
            baseline.fit(self._protocol.data)
        return baseline

    def _saved(self, name: BaselineName, seed: int) -> Artifact[Baseline]:
        """Train a system that is to be kept, unless it lies in the folder."""
        path = self._work.folder.path / "models" / path_name(name) / f"seed-{seed}"

        def make(config: Config) -> Made:
            baseline = self._trained(name, seed)
            baseline.save(path)
            return Made([path])

        def load(made: Artifact[Baseline]) -> Baseline:
            baseline = open_baseline(name, seed)
            baseline.restore(made.path)
            return baseline

        return self._work.step(
            f"models/{path_name(name)}/seed-{seed}",
            "",
            make,
            load,
            settings=("items.fields",),
            content=[self._protocol.digest, *self._identity(name, seed)],
        )

    def _answer(self, name: BaselineName, seed: int, depth: int | None) -> SeedScores:
        baseline, training_seconds = self._fit(name, seed)
        started = time.monotonic()
        protocol = self._protocol
        scores = {
            split: {
                sampler: score_places(baseline, data.users, data.histories, rows)
                for sampler, rows in data.candidates.items()
            }
            for split, data in protocol.splits.items()
        }
        n_items, ties = protocol.prepared.items.height, self._work.config.seed
        catalogue = {
            split: rank_catalogue(
                baseline, protocol.splits[split], n_items, depth, ties, protocol.config.split.keeps_history
            )
            for split in MEASURED
            if depth is not None
        }
        return SeedScores(
            scores, catalogue, self._info(baseline, training_seconds, time.monotonic() - started)
        )

    def _info(self, baseline: Baseline, training: float, scoring: float) -> ScoreInfo:
        if isinstance(baseline, Sequential):
            record = baseline.record
            details = {
                "epochs": record.epochs,
                "best_epoch": record.best_epoch,
                "validation": record.validation if np.isfinite(record.validation) else None,
                **_told(baseline),
            }
            return ScoreInfo(record.seconds, scoring, record.examples, record.negatives, details)
        counted = sum(map(len, self._protocol.data.sequences)) if baseline.counts_interactions else None
        return ScoreInfo(training, scoring, counted, details=_told(baseline))


def _told(baseline: Baseline) -> dict[str, Any]:
    return {"notes": list(baseline.notes)} if baseline.notes else {}


def training_seeds(name: BaselineName, seeds: Sequence[int], own: int) -> tuple[int, ...]:
    """Return the training seeds of a baseline; one that nothing is drawn for has the run's alone."""
    return tuple(seeds) if baseline_class(name).stochastic else (own,)


def rank_catalogue(
    baseline: Baseline, data: SplitData, n_items: int, depth: int, seed: int, keeps_history: bool = False
) -> InCatalogue:
    """Rank the catalogue for every user of a split with a trained baseline, block by block.

    `depth` items are retrieved a user; `seed` decides the order of retrieved items with equal scores.
    Items of the history leave the ranking unless it `keeps_history`.
    """
    ranks, retrieved = [], []
    for part, scores in score_catalogue(baseline, data.users, data.histories, n_items):
        histories = data.hidden(keeps_history, part)
        ranks.append(place_in_catalogue(scores, data.targets[part], histories))
        # The same order of equal scores in every block: blocks are a matter of memory only.
        if depth:
            retrieved.append(top_items(scores, histories, depth, np.random.default_rng(seed)))
    return InCatalogue(
        CatalogueRanks(
            *(np.concatenate([getattr(of, name) for of in ranks]) for name in ("above", "tied", "others"))
        ),
        np.concatenate(retrieved).astype(np.int32) if depth else np.empty((len(data.users), 0), np.int32),
    )


def retrieval_depth(protocol: EvaluationProtocol, wanted: int) -> int | None:
    """Return `wanted`, less in a small catalogue; None where candidates are given and no others ranked."""
    if protocol.samplers[0] not in get_args(Drawn):
        return None
    longest = max(len(np.unique(history)) for data in protocol.splits.values() for history in data.histories)
    return min(wanted, protocol.prepared.items.height - longest)


def second_stage_scores(
    work: Work, name: str, digest: Any, users: Sequence[str], retrieved: Places, score: Callable[[], Floats]
) -> Artifact[Floats]:
    """Keep how a system scored what a retriever handed on; `digest` says which system it is."""
    path = work.folder.path / "second_stage" / f"{name}.parquet"

    def make(config: Config) -> Made:
        started = time.monotonic()
        write_parquet(pl.DataFrame({USER: users, SCORE: lists(score())}), path)
        return Made([path], {"scoring_seconds": time.monotonic() - started})

    handed_on = sha256(np.ascontiguousarray(retrieved).tobytes()).hexdigest()
    return work.step(
        f"second_stage/{name}",
        "",
        make,
        lambda made: table(read_parquet(made.path)[SCORE]).astype(np.float64),
        settings=(),
        content=[digest, handed_on],
    )


OUTSIDE: Final = "outside"
"""Detail on the card of an outside system."""
DESCRIPTION: Final = "description"
"""Detail on the card of a system that only its settings describe: one sentence for the page."""


def imported_names(folder: RunFolder) -> tuple[str, ...]:
    """Return the names of all outside systems of a run."""
    return tuple(sorted(path.stem for path in imported_path(folder, "any").parent.glob("*.parquet")))


def outside_systems(
    config: Config, protocol: EvaluationProtocol, names: Sequence[str], say: Callable[[str], None]
) -> list[SystemScores]:
    """Read the scores of the outside systems named.

    A sampler whose candidates a system has not scored is left out of its scores, and said so; a system
    that has not scored the validation users takes part in no choice.
    """
    folder = RunFolder(config.folder)
    systems = []
    for name in names:
        rows = read_parquet(imported_path(folder, name)).select(USER, ITEM, SCORE)
        scores: dict[Split, dict[Sampler, Floats]] = {}
        for split, data in protocol.splits.items():
            found = {
                sampler: table
                for sampler in data.candidates
                if (table := _looked_up(rows, protocol, split, sampler)) is not None
            }
            if found:
                scores[split] = found
        missing = [sampler for sampler in protocol.samplers if sampler not in scores.get(Split.TEST, {})]
        if missing:
            say(
                f"{name}: has no scores of the {', '.join(missing)} candidates; `trsr export`, score those "
                "pairs and `trsr import` again to have them in the table"
            )
        if Split.TEST in scores:
            card = ScoreInfo(negatives="not known", details={OUTSIDE: True})
            systems.append(SystemScores(name, Kind.BASELINE, (config.seed,), (SeedScores(scores, {}, card),)))
    return systems


def _looked_up(
    rows: pl.DataFrame, protocol: EvaluationProtocol, split: Split, sampler: Sampler
) -> Floats | None:
    """Find the scores of one sampler's candidates; None when one is missing."""
    data = protocol.splits[split]
    candidates = data.candidates[sampler]
    row, column = np.nonzero(candidates != NOTHING)
    pairs = pl.DataFrame(
        {
            USER: pl.Series(data.users, dtype=pl.String).gather(row),
            ITEM: protocol.prepared.items[ITEM].gather(candidates[row, column]),
        }
    )
    found = pairs.join(rows, on=[USER, ITEM], how="left", maintain_order="left")[SCORE]
    if found.null_count():
        return None
    table = np.full(candidates.shape, -np.inf)
    table[row, column] = found.to_numpy()
    return table
