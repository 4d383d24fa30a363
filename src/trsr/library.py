"""The method as objects: data frames in, rankers that are fitted, fused and saved, measures out.

The commands are thin over the same functions: a run folder keeps what these calls make.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, write_parquet
from trsr.baselines.base import Scores, open_baseline, score_places
from trsr.bundle import Bundle, save_bundle
from trsr.compact.start import fresh_ranker
from trsr.config import Config, load
from trsr.config.data import Source
from trsr.config.evaluation import Sampler
from trsr.config.ranking import CompactModel, HuggingFaceModel
from trsr.config.summary import Writer
from trsr.data.dataset import Catalogue, Dataset, checked
from trsr.data.prepare import choose
from trsr.data.readers.registry import detect
from trsr.data.readers.registry import read as read_source
from trsr.errors import ConfigError, DataError
from trsr.evaluation.metrics import NDCG, Metric, Recall
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.statistics import paired_tests, with_reference
from trsr.experiments.protocol import EvaluationProtocol, Places, protocol_of
from trsr.experiments.scores import ScoreInfo, SeedScores, SystemScores, sampled_frames
from trsr.fusion.companions import WEIGHTS, Companions
from trsr.fusion.features import joined
from trsr.fusion.fusion import Fusion, fit_fusion
from trsr.fusion.retrieval import CatalogueFusion, fit_catalogue
from trsr.ranking.ranker import Ranker, score_lists
from trsr.records import ITEM, SUMMARY, USER, Split
from trsr.report.results import Kind
from trsr.stages.summarize import users_of
from trsr.stages.train import fine_tune_ranker, is_pretrained_here, pretrained_ranker, shown_items
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import check_table, to_frame

Floats = NDArray[np.float64]

_OWN: Final = ("model", "prompt", "training", "seed")
"""Sections that a ranker brings; the others are the protocol's."""


def read(path: Path | str | Source) -> Dataset:
    """Read a data set in any of the known formats, or by the settings of the section ``data``.

    What was noticed, repaired or left out on the way is told by its `findings`.

    Parameters
    ----------
    path
        A folder, whose format is recognised, or settings such as ``DemoData(users=500)``.

    Raises
    ------
    DataError
        When the format isn't known, a file can't be read, or nothing is left.
    """
    source = detect(Path(path)) if isinstance(path, str | Path) else path
    dataset, findings = read_source(source, seed=0)
    return replace(dataset, findings=findings)


def prepare(
    dataset: Dataset,
    *,
    negatives: int = 20,
    sampler: Sampler = "uniform",
    min_history: int = 11,
    max_history: int = 26,
    valid: float = 0.1,
    test: float = 0.1,
    split_by: str = "hash",
    fields: Sequence[str] = (),
    users: int | None = None,
    seed: int = 0,
) -> EvaluationProtocol:
    """Choose users and targets, split them, and freeze candidates: what every system is asked.

    Parameters
    ----------
    dataset
        As `from_frames` makes it.
    negatives, sampler
        How many candidates are drawn beside the target, and how: ``uniform`` or ``popularity``.
    min_history, max_history
        Users with fewer interactions, the target among them, are learnt from and not measured; of
        longer histories the newest part is kept.
    valid, test
        Shares of the users.
    split_by
        ``hash`` of the user's id, or ``time`` of the target.
    fields
        Text fields that systems read; empty for all.
    users
        So many of those who take part, drawn by the seed, to try all that follows on a few; None for all.
    seed
        Of the split and of all that is drawn.

    Raises
    ------
    ConfigError
        When a setting can't be.
    DataError
        When no user is left, a part of the split would be empty, or the catalogue is too small.
    """
    config = load(
        overrides={
            "seed": seed,
            "history": {"min": min_history, "max": max_history, "users": users},
            "split": {"by": split_by, "valid": valid, "test": test},
            "candidates": {"negatives": negatives, "sampler": sampler},
            "items.fields": list(fields),
        }
    )
    return protocol_of(config, choose(checked(dataset), dataset.findings, config))


def write_summaries(
    protocol: EvaluationProtocol,
    writer: Writer | Mapping[str, Any] | type | str = "keyphrase",
    paradigm: type | str = "recurrent",
    *,
    domain: str = "shopping",
    **settings: Any,
) -> pl.DataFrame:
    """Write the summary of every user's history, without the target.

    Parameters
    ----------
    protocol
        As `prepare` gives it.
    writer
        Settings of a writer, its name, or your own class (see `trsr.summarize.writer.Writer`). For texts that
        are there already, ``{"kind": "table", "path": "profiles.csv"}``; what is found in them is a warning.
    paradigm
        ``recurrent``, ``hierarchical``, ``sections``, or your own.
    domain
        What prompts call the interactions.
    settings
        Further ones of the section ``summary``, such as ``block_size=10``, ``store="sqlite:///answers.db"``
        or ``limits={"max_cost": 5.0}``.

    Returns
    -------
    polars.DataFrame
        A row a user: ``user_id``, ``summary``, ``block_summaries``, calls and tokens, and why it failed.

    Raises
    ------
    ConfigError
        When a setting, the writer or the paradigm isn't known.
    DataError
        When a table of texts can't be read, or has none for any user.
    WriterError
        When no summary can be had any more; answers that were paid for are in the store.
    """
    chosen = {"kind": writer} if isinstance(writer, str | type) else writer
    told = {"writer": chosen, "paradigm": paradigm, **settings}
    config = _config(protocol, {"summary": told, "prompt.domain": domain})
    users, catalogue = users_of(config, protocol.prepared.items, protocol.prepared.histories)
    for finding in check_table(config, [user for user, _ in users]):
        warnings.warn(finding.sentence, stacklevel=2)
    with Summarizer(config, protocol.prepared.items.select(ITEM, *catalogue.fields)) as summarizer:
        return to_frame(summarizer.summarize(users))


def _config(protocol: EvaluationProtocol, sections: Mapping[str, Any]) -> Config:
    """Put sections over the settings of a protocol."""
    return load(overrides={**protocol.config.model_dump(exclude_defaults=True), **sections})


class TextRanker:
    """Ranks by p(yes) of a language model that reads a summary, the newest items and the candidate.

    Make one with `from_pretrained`, teach it with `fit`, or `load` one that was saved.

    Examples
    --------
    >>> TextRanker.from_pretrained("compact", epochs=1).is_fitted
    False
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._ranker: Ranker | None = None
        self._items: pl.DataFrame | None = None
        self._told: Mapping[str, str] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | CompactModel | HuggingFaceModel = "compact",
        *,
        prompt: Mapping[str, Any] | None = None,
        seed: int = 0,
        **training: Any,
    ) -> Self:
        """Name the model that training starts from; it is loaded by `fit`.

        Parameters
        ----------
        model
            ``compact``, the built-in model that learns from the data alone; else a folder, a file or a hub
            id of a causal language model. Settings of either are taken too.
        prompt
            Settings of the section ``prompt``, such as ``{"recent_items": 10}``.
        seed
            Of all that is drawn in training.
        training
            Settings of the section ``training``, such as ``epochs=3`` or ``loss="listwise"``.

        Raises
        ------
        ConfigError
            When a setting isn't known.
        """
        chosen: Any = model
        if model == "compact":
            chosen = CompactModel()
        elif isinstance(model, str | Path):
            chosen = {"kind": "huggingface", "path": str(model)}
        return cls(
            load(overrides={"model": chosen, "prompt": prompt or {}, "training": training, "seed": seed})
        )

    @property
    def is_fitted(self) -> bool:
        """Whether it can score."""
        return self._ranker is not None

    def fit(
        self,
        protocol: EvaluationProtocol,
        summaries: pl.DataFrame | None = None,
        *,
        checkpoints: Path | str | None = None,
    ) -> Self:
        """Teach the model the training users' answers, and keep the best epoch by the validation users.

        Parameters
        ----------
        protocol
            As `prepare` gives it.
        summaries
            As `write_summaries` gives them, for every user; None: the model is told of none.
        checkpoints
            Where a training that is killed goes on from; None: it starts again.

        Raises
        ------
        ModelError
            When the model can't be loaded, or is none of those that can be taught.
        """
        own = self.config.model_dump(include=set(_OWN), exclude_defaults=True)
        config = self.config = _config(protocol, own)
        nothing = protocol.prepared.histories.select(USER, pl.lit("").alias(SUMMARY))
        table = nothing if summaries is None else summaries.select(USER, SUMMARY)
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(checkpoints or scratch)
            start: Ranker | None = None
            if is_pretrained_here(config):
                start, _ = pretrained_ranker(config, protocol.prepared, place / "pretraining")
            shown = shown_items(config, protocol.prepared.items)
            ranker = fresh_ranker(config, start, catalogue=shown)
            fine_tune_ranker(ranker, config, protocol.prepared, table, place / "fine_tuning")
        self._ranker = ranker
        self._items = protocol.prepared.items
        return self.told(table)

    def told(self, summaries: pl.DataFrame) -> Self:
        """Take other summaries, ``user_id`` and ``summary``, for users to be scored."""
        self._told = dict(summaries.select(USER, SUMMARY).iter_rows())
        return self

    def score(self, users: Sequence[str], histories: Sequence[Places], candidates: Places) -> Floats:
        """Return p(yes), ``(n_users, n_candidates)``; items are places in the catalogue.

        Raises
        ------
        DataError
            When it isn't fitted, or a user has no summary and others have.
        """
        ranker, items = self._fitted
        catalogue = Catalogue(items, self.config.ranking_fields)
        scores = score_lists(ranker, catalogue, self._told, users, histories, list(candidates))
        return np.stack(scores) if scores else np.empty(candidates.shape)

    def save(self, folder: Path | str) -> None:
        """Write a bundle: what ranks, and no user; see `trsr.bundle`. One that is there is replaced."""
        _save(self, folder, None)

    @classmethod
    def load(cls, folder: Path | str, summaries: pl.DataFrame | None = None) -> Self:
        """Read the language model of a bundle; a bundle holds no summaries, so `summaries` may bring them.

        Raises
        ------
        ArtifactError
            When it is no bundle, or is damaged.
        """
        bundle = Bundle(Path(folder))
        made = cls(bundle.config)
        made._ranker = bundle.ranker()
        made._items = bundle.items()
        return made if summaries is None else made.told(summaries)

    @property
    def _fitted(self) -> tuple[Ranker, pl.DataFrame]:
        if self._ranker is None or self._items is None:
            message = "the ranker isn't fitted; call fit first"
            raise DataError(message)
        return self._ranker, self._items


_Fused = tuple[Fusion, Companions, CatalogueFusion | None]


class FusedRanker:
    """Joins a language model with systems that know behaviour and words, by what validation users say.

    Parameters
    ----------
    ranker
        The language model, fitted.
    companions
        Baselines by name, with settings where wanted, such as ``bm25(k1=1.5)``, or your own as
        ``package.module:Class``.
    further
        Other settings of the section ``fusion``, such as ``items=0``: don't learn to recommend.
    """

    def __init__(
        self,
        ranker: TextRanker,
        companions: Sequence[str] = ("sasrec_text", "itemknn", "tfidf", "popularity"),
        **further: Any,
    ) -> None:
        self.ranker = ranker
        told = {f"fusion.{name}": value for name, value in further.items()}
        self._settings = load(overrides={"fusion.companions": list(companions), **told}).fusion
        self._learnt: _Fused | None = None
        self._by_popularity = False

    @property
    def weights(self) -> dict[str, float]:
        """How much each system counts."""
        return dict(self._fitted[0].weights)

    def fit(self, protocol: EvaluationProtocol) -> Self:
        """Train the companions, and learn the weights from validation users' candidates of both samplers.

        Raises
        ------
        DataError
            When the ranker isn't fitted, or the validation users, or their targets retrieved, are too few.
        """
        told, data, parts, whole = self._settings, protocol.splits[Split.VALID], [], None
        companions = Companions.fit(told.companions, protocol.data, self.ranker.config.training_seed)
        asked = data.users, data.histories
        for sampler, candidates in data.candidates.items():
            p_yes = self.ranker.score(*asked, candidates)
            parts.append(companions.evidence(*asked, candidates, p_yes, sampler == "popularity"))
        if items := min(told.items, protocol.prepared.items.height):
            read, retriever = partial(self.ranker.score, *asked), companions.retriever(told)
            whole = fit_catalogue(retriever, *asked, data.targets, items, read)[0]
        targets = np.concatenate(list(data.columns.values()))
        self._learnt = fit_fusion(joined(parts), targets, data.users * len(parts)), companions, whole
        self._by_popularity = protocol.samplers[0] == "popularity"
        return self

    def score(self, users: Sequence[str], histories: Sequence[Places], candidates: Places) -> Floats:
        """Return p(next item) among candidates drawn as the protocol's, ``(n_users, n_candidates)``."""
        fusion, companions, _ = self._fitted
        p_yes = self.ranker.score(users, histories, candidates)
        return fusion.score(companions.evidence(users, histories, candidates, p_yes, self._by_popularity))

    def save(self, folder: Path | str) -> None:
        """Write a bundle, which `Recommender.load` serves: what ranks, and no user."""
        _save(self.ranker, folder, self._fitted)

    @property
    def _fitted(self) -> _Fused:
        if self._learnt is None:
            message = "the fused ranker isn't fitted; call fit first"
            raise DataError(message)
        return self._learnt


def _save(ranker: TextRanker, folder: Path | str, fused: _Fused | None) -> None:
    """Lay out what a run folder would hold, and make its bundle."""
    model, items = ranker._fitted
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = RunFolder(scratch)
        write_parquet(items, made.items)
        model.save(made.model)
        if fused is not None:
            fused[1].save(made.fusion)
            fused[0].save(made.fusion / WEIGHTS)
            if fused[2] is not None:
                fused[2].save(made.fusion)
        save_bundle(ranker.config, made, fused=fused is not None)
        shutil.rmtree(target, ignore_errors=True)
        made.bundle.rename(target)


def evaluate(
    systems: Mapping[str, Scores | str],
    protocol: EvaluationProtocol,
    metrics: Sequence[Metric] = (Recall(k=5), Recall(k=10), NDCG(k=10)),
    *,
    split: str = "test",
    reference: str | None = None,
    resamples: int = 1000,
) -> pl.DataFrame:
    """Measure systems on the same users and frozen candidates.

    Parameters
    ----------
    systems
        Name to a system that is fitted, or to the name of a baseline, which is fitted here.
    protocol
        As `prepare` gives it.
    metrics
        What is measured, with equal scores taken in expectation.
    split
        ``test``, or ``valid`` for choices.
    reference
        Whom all others are tested against; None: the best by the last metric, which makes the tests
        explore rather than confirm.
    resamples
        Of users, for the 95% intervals.

    Returns
    -------
    polars.DataFrame
        A row a system and metric: ``system``, ``metric``, ``mean``, ``low``, ``high``, ``users``; and for
        all but the reference ``difference``, the reference's mean minus the system's, with its interval,
        and ``p``, of a paired sign-flip test over users, by Holm's method over the systems of a metric.

    Raises
    ------
    DataError
        When a score is no number.
    ConfigError
        When there is no such baseline, or the reference is none of the systems.
    """
    part, seed = Split(split), protocol.config.seed
    data, sampler = protocol.splits[part], protocol.samplers[0]
    frames = {}
    for name, given in systems.items():
        system = given
        if isinstance(system, str):
            system = open_baseline(system, seed)
            system.fit(protocol.data)
        scores = score_places(system, data.users, data.histories, data.candidates[sampler])
        run = SeedScores({part: {sampler: scores}}, {}, ScoreInfo())
        scored = SystemScores(name, Kind.BASELINE, (seed,), (run,))
        [frames[name]] = sampled_frames(scored, protocol, part, sampler, metrics)
    results = {name: summarise(frame, resamples, seed) for name, frame in frames.items()}
    last = metrics[-1].name
    best = reference or max(results, key=lambda name: results[name].metrics[last].mean)
    if best not in results:
        message = f"the reference must be one of {', '.join(results)}, got {reference!r}"
        raise ConfigError(message)
    tests = {
        (test.second, test.metric): test
        for metric in metrics
        for test in paired_tests(
            frames, with_reference(list(frames), best), [metric.name], resamples=resamples, seed=seed
        )
    }
    rows = []
    for name, result in results.items():
        for metric, value in result.metrics.items():
            test = tests.get((name, metric))
            differs = test.difference if test else None
            told = (differs.mean, differs.low, differs.high, test.p_holm) if test and differs else (None,) * 4
            rows.append((name, metric, value.mean, value.low, value.high, result.users, *told))
    numbers = ("mean", "low", "high")
    further = ("difference", "difference_low", "difference_high", "p")
    schema = {"system": pl.String, "metric": pl.String, **dict.fromkeys(numbers, pl.Float64)}
    schema |= {"users": pl.Int64, **dict.fromkeys(further, pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row")
