"""The story of the study of summaries: every arm at one budget, the same users, one claim written down first.

Each arm and seed is a cell: trained, scored, and kept. Several processes may fill one folder, each takes the
cells that nobody has; whoever finds all of them complete writes the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, hash_path, hash_value, locked, write_json, write_text
from trsr.config import Config
from trsr.config.summary import TableWriter
from trsr.data.dataset import Catalogue
from trsr.errors import ArtifactError, ConfigError
from trsr.experiments.arms import Arm, arms, claim, exchange, newest, writers
from trsr.experiments.measured_arms import Cell, MeasuredArms
from trsr.experiments.progress import Job, Progress
from trsr.experiments.progress import Work as Sort
from trsr.experiments.protocol import comparison_protocol, require_users
from trsr.experiments.report import figures
from trsr.experiments.systems import LanguageModel
from trsr.experiments.tables import rounded
from trsr.experiments.variants import configure
from trsr.ranking.ranker import Ranker
from trsr.records import (
    SPLIT,
    Split,
)
from trsr.report import study as told
from trsr.report.page import render
from trsr.report.results import LEVEL
from trsr.served import ServedRanker
from trsr.stages.caption import caption
from trsr.stages.prepare import prepare
from trsr.stages.summarize import summarize
from trsr.stages.train import pretrain, ranking_tasks, train
from trsr.stages.work import Artifact, Made, Work

_FOLDER: Final = "study"
SUMMARIES: Final = "summaries"
"""What `only` is where the summaries alone are to be written."""


@dataclass(frozen=True, slots=True)
class Studied:
    """Where a study's files lie."""

    figures: Path
    table: Path
    page: Path


def study(
    config: Config,
    *,
    only: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    command: str = "trsr study summaries",
    users: bool = True,
    say: Callable[[str], None] = print,
) -> Studied | None:
    """Fill the cells of the study that nobody has filled, and write ``study`` of the run folder.

    `only` names letters of arms, or ``summaries`` to write these and train nothing; `seeds` takes some of the
    training seeds. With either, nothing is gathered, and None returned, until a call without them. Without
    `users` the page shows no single users. Raises `ConfigError` when something unknown is named, or the
    settings are others than those that were written down.
    """
    started = time.monotonic()
    require_users(config, "trsr study")
    wanted = _wanted(config, only, seeds)
    made = Study(config, say)
    if only is not None and SUMMARIES in only:
        made.write_summaries()
    cells = made.fill(wanted)
    if only is not None or seeds is not None:
        say(f"kept in {made.folder}; the same command without --only and --seeds writes the page")
        return None
    content = made.gather(cells, command, time.monotonic() - started, users=users)
    written = Studied(made.folder / "study.json", made.folder / "study.md", made.folder / "study.html")
    write_json(rounded(asdict(content) | {"results": figures(content.results)}), written.figures)
    write_text(told.markdown(content), written.table)
    write_text(render(content), written.page)
    say(f"\n{told.markdown(content)}")
    return written


def _wanted(config: Config, only: Sequence[str] | None, seeds: Sequence[int] | None) -> list[tuple[Arm, int]]:
    names = config.study.arms
    if only is not None and (unknown := [name for name in only or [""] if name not in (*names, SUMMARIES)]):
        asked = ", ".join(map(repr, unknown))
        message = f"--only must name arms among {', '.join(names)}, or {SUMMARIES}, got {asked}"
        raise ConfigError(message)
    if seeds is not None and (others := [seed for seed in seeds if seed not in config.study.seeds]):
        message = (
            f"--seeds must be among study.seeds ({', '.join(map(str, config.study.seeds))}), got {others[0]}"
        )
        raise ConfigError(message)
    # Seed by seed, and the arms of the claim first: whoever stops early has what can be compared.
    order = sorted(arms(config), key=lambda arm: arm.letter not in "bdf")
    return [
        (arm, seed)
        for seed in config.study.seeds
        for arm in order
        if (seeds is None or seed in seeds) and (only is None or arm.letter in only)
    ]


class Study:
    """One study and its folder: data, candidates, and what was written down before anything was scored."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        # Nothing is chosen here, so one sampler, the run's own, is enough.
        comparison = config.comparison.model_copy(update={"samplers": (config.candidates.sampler,)})
        self.config = config = config.model_copy(update={"comparison": comparison})
        self.run = RunFolder(config.folder)
        self.folder = self.run.path / _FOLDER
        self.say = say
        self.arms = arms(config)
        with locked(self._lock("data")):
            work = Work(config, self.run, say)
            self.prepared = caption(work, prepare(work))
            self.protocol = comparison_protocol(work, self.prepared)
        self.measure = f"NDCG@{max(config.evaluation.ks)}"
        self.work = Work(config, RunFolder(self.folder), say)
        lengths = [len(history) for history in self.protocol.splits[Split.TEST].histories]
        self.lengths = np.array(lengths)
        with locked(self._lock("registration")):
            self.registered = self._register()

    def _lock(self, name: str) -> Path:
        return self.folder / "locks" / name

    # -- what is written down before test users are scored ------------------------------------------

    def _register(self) -> Mapping[str, Any]:
        """Write down what is claimed and how it is tested; refuse to go on by other settings."""
        path = self.folder / "preregistration.json"
        plan = self._plan()
        if path.exists():
            written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if written["hash"] != hash_value(plan):
                now, before = json.loads(json.dumps(plan)), written["plan"]
                changed = [name for name in now if now[name] != before.get(name)]
                message = (
                    f"{path}: written down at {written['written_at']}; {', '.join(changed)} changed since: "
                    "a study isn't changed once it has begun; give another --out"
                )
                raise ConfigError(message)
            return written
        if any(name.startswith("scores/") for name in RunFolder(self.folder).entries()):
            message = f"{path} is missing, and cells are scored already: give another --out"
            raise ArtifactError(message)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json({"written_at": now, "hash": hash_value(plan), "plan": plan}, path)
        self.say(f"written down before any test user is scored: {path}")
        return {"written_at": now, "hash": hash_value(plan), "plan": plan}

    def _plan(self) -> dict[str, Any]:
        config = self.config
        values = config.model_dump(mode="json")
        kept = ("items", "history", "split", "candidates", "prompt", "model", "training", "study", "seed")
        settings = {name: values[name] for name in kept}
        settings["summary"] = {
            name: value
            for name, value in values["summary"].items()
            if name not in ("store", "price", "limits", "writer")
        }
        settings["training"] = {**settings["training"], "report_to": None, "seed": None}
        settings["study"] = {**settings["study"], "writers": None}
        primary = claim(self.arms)
        drawn = config.candidates
        return {
            "claim": told.CLAIM.format(recent=config.study.recent_items[0]),
            "measure": f"{self.measure}, {drawn.negatives} {drawn.sampler} negatives, test users",
            "contrasts": [[first.name, second.name] for first, second in primary],
            "growth": [arm.name for arm in primary[0]],
            "test": told.TEST,
            "level": LEVEL,
            "arms": {arm.name: arm.label for arm in self.arms},
            "writers": {name: self._identity(writer) for name, writer in writers(config).items()},
            "lengths": list(self._cuts()),
            "users": {split.value: len(data.users) for split, data in self.protocol.splits.items()}
            | {"train": self.prepared.value.histories.filter(pl.col(SPLIT) == Split.TRAIN.value).height},
            "data": self.protocol.digest,
            "settings": settings,
        }

    def _identity(self, writer: Any) -> Any:
        told = writer.model_dump(mode="json")
        if isinstance(writer, TableWriter):  # the file may lie elsewhere
            told |= {"path": writer.path.name, "content": hash_path(writer.path)}
        return told

    def _cuts(self) -> tuple[int, ...]:
        """Give the longest history of each group by length but the last."""
        if self.config.study.lengths:
            return self.config.study.lengths
        thirds = np.quantile(self.lengths, [1 / 3, 2 / 3], method="lower")
        return tuple(int(cut) for cut in np.unique(thirds) if cut < self.lengths.max())

    # -- cells ----------------------------------------------------------------------------------------

    def fill(self, wanted: Sequence[tuple[Arm, int]]) -> dict[tuple[str, int], Cell]:
        """Train and score cells; those that another process has under way are waited for at the end."""
        progress = Progress([Job(Sort.LANGUAGE_MODEL, arm.name, seed) for arm, seed in wanted], self.say)
        found: dict[tuple[str, int], Cell] = {}
        for wait in (False, True):
            for arm, seed in wanted:
                if (arm.name, seed) not in found:
                    with locked(self._lock(f"{arm.name}-seed-{seed}"), wait=wait) as free:
                        if free:
                            found[arm.name, seed] = self._cell(arm, seed, progress)
        return found

    def _cell(self, arm: Arm, seed: int, progress: Progress) -> Cell:
        """Train one arm with one seed, score the candidates, and count its prompts' tokens."""
        with progress.job(Job(Sort.LANGUAGE_MODEL, arm.name, seed)) as job:
            model, written = self._model(arm, seed, job.tell)
            scored = model.scores(self.work, f"{arm.name}/seed-{seed}", self.protocol, begin=job.begin)
            tokens = self._tokens(arm, seed, model)
            job.seconds = scored.value.info.seconds
        return Cell(scored.value, tokens.value, model.summaries, written)

    def _model(
        self, arm: Arm, seed: int, say: Callable[[str], None]
    ) -> tuple[LanguageModel, Artifact[pl.DataFrame]]:
        """Train one arm with one seed; all arms of a seed start from the same model."""
        folder = RunFolder(self.folder / arm.name / f"run-{seed}")
        settings = configure(self.config, arm.variant, seed, folder.path)
        with locked(self._lock(f"pretrained-{seed}")):
            start = pretrain(self._shared(settings, f"seed-{seed}", say), self.prepared)
        summaries, written = self._summaries(arm, settings, seed, say)
        own = Work(settings, folder, lambda line: say(f"    {line}"), sources=(self.run,))
        ranker = train(own, self.prepared, summaries, start)
        return LanguageModel(settings, summaries, start, ranker), written

    def _summaries(
        self, arm: Arm, settings: Config, seed: int, say: Callable[[str], None]
    ) -> tuple[Artifact[pl.DataFrame], Artifact[pl.DataFrame]]:
        """Write what an arm is told of the users, and what it is made of, once for all that share it."""
        recents = arm.letter == "g"
        name = "-".join(filter(None, (arm.writer or "none", f"newest-{arm.recent}" if recents else "")))
        with locked(self._lock(name)):
            work = self._shared(settings, name, say)
            known = newest(work, self.prepared, arm.recent or 0) if recents else self.prepared
            written = summarize(work, known)
            told = exchange(work, self.prepared, written, seed) if arm.letter == "f" else written
        return told, written

    def _shared(self, settings: Config, name: str, say: Callable[[str], None]) -> Work:
        # A summary that could not be written stays so: arms that were told another thing compare nothing.
        folder = RunFolder(self.folder / "shared" / name)
        return Work(settings, folder, lambda line: say(f"    {line}"), sources=(self.run,), together=True)

    def write_summaries(self) -> None:
        """Write the summaries of all arms, and train nothing."""
        for arm in self.arms:
            settings = configure(self.config, arm.variant, self.config.study.seeds[0], self.folder)
            self._summaries(arm, settings, self.config.study.seeds[0], self.say)

    def _tokens(self, arm: Arm, seed: int, model: LanguageModel) -> Artifact[dict[str, Any]]:
        """Count the tokens of the test users' prompts, and what did not fit."""
        path = self.folder / "tokens" / arm.name / f"seed-{seed}.json"

        def make(config: Config) -> Made:
            catalogue = Catalogue(self.prepared.value.items, model.config.ranking_fields)
            tasks = ranking_tasks(self.prepared.value, model.summaries.value, catalogue, Split.TEST)
            ranker = model.ranker.value
            assert isinstance(ranker, Ranker | ServedRanker)  # no other is a run's own
            encoded = ranker.encode(tasks)
            prefixes = np.array([len(user.prefix) for user in encoded])
            read = prefixes + [sum(map(len, user.suffixes)) for user in encoded]
            most = model.config.prompt.recent_items
            shown = [
                min(most, len(task.history)) - user.cut.recent_items
                for task, user in zip(tasks, encoded, strict=True)
            ]
            tokens = {
                "prefix": float(prefixes.mean()),
                "read": float(read.mean()),
                "items": float(np.mean(shown)),
                "cut_items": sum(user.cut.recent_items > 0 for user in encoded),
                "cut_summaries": sum(user.cut.summary_tokens > 0 for user in encoded),
            }
            write_json(tokens, path)
            return Made([path])

        return self.work.step(
            f"tokens/{arm.name}/seed-{seed}",
            "",
            make,
            lambda made: json.loads(made.path.read_text(encoding="utf-8")),
            settings=(),
            content=[self.protocol.digest, model.digest],
        )

    def gather(
        self, cells: Mapping[tuple[str, int], Cell], command: str, seconds: float, *, users: bool
    ) -> told.StudyContent:
        """Measure all arms on the test users, and test the claim."""
        scored = RunFolder(self.folder).entries().items()
        first = min(entry.finished_at for name, entry in scored if name.startswith("scores/"))
        measured = MeasuredArms(self.config, self.protocol, self.arms, cells, self._cuts())
        return measured.content(self.registered, first, command, seconds, users=users)
