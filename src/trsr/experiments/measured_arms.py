"""What the arms of a study reached and took: figures, contrasts, and what their texts say without a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.base import score_places
from trsr.baselines.text import TextSimilarity
from trsr.config import Config
from trsr.config.summary import KeyphraseWriter, TableWriter
from trsr.evaluation.metrics import NDCG, expected_metrics, metrics_at, place_target
from trsr.evaluation.statistics import (
    Estimate,
    average_seeds,
    bootstrap_means,
    holm,
    paired_tests,
    seed_spread,
    trend,
)
from trsr.experiments.arms import Arm, claim, writers
from trsr.experiments.protocol import EvaluationProtocol, Places
from trsr.experiments.report import drawn_cases, provenance
from trsr.experiments.scores import SeedScores, SystemScores, sampled_frames
from trsr.experiments.tables import Tables
from trsr.experiments.variants import writer_label
from trsr.records import (
    BLOCK_SUMMARIES,
    CALLS,
    COMPLETION_TOKENS,
    FAILED,
    ITEM,
    PROMPT_TOKENS,
    SUMMARY,
    USER,
    Split,
    Usage,
)
from trsr.report import study as told
from trsr.report.results import Kind, Results, System
from trsr.stages.summarize import BILL
from trsr.stages.work import Artifact
from trsr.summarize.cost import cost


@dataclass(frozen=True, slots=True)
class Cell:
    """One arm with one training seed: its scores, its prompts' tokens, what it was told and whence."""

    scores: SeedScores
    tokens: Mapping[str, float]
    summaries: Artifact[pl.DataFrame]
    written: Artifact[pl.DataFrame]


class MeasuredArms:
    """All arms on the test users; `cells` holds every arm and seed, `cuts` end the groups by length."""

    def __init__(
        self,
        config: Config,
        protocol: EvaluationProtocol,
        arms: Sequence[Arm],
        cells: Mapping[tuple[str, int], Cell],
        cuts: Sequence[int],
    ) -> None:
        self.config = config
        self.protocol = protocol
        self.arms = arms
        self.measure = f"NDCG@{max(config.evaluation.ks)}"
        self.lengths = np.array([len(history) for history in protocol.splits[Split.TEST].histories])
        groups = [np.searchsorted(cuts, self.lengths, side="left") == group for group in range(len(cuts) + 1)]
        self.groups = [members for members in groups if members.any()]
        self._cells = {arm.name: [cells[arm.name, seed] for seed in config.study.seeds] for arm in arms}
        self._systems = {arm.name: self._system(arm) for arm in arms}
        self._by_seed = {name: self._measured(system) for name, system in self._systems.items()}
        self._frames = {name: average_seeds(frames) for name, frames in self._by_seed.items()}

    def content(
        self, registered: Mapping[str, Any], scored_at: str, command: str, seconds: float, *, users: bool
    ) -> told.StudyContent:
        """Put together what the page tells."""
        names = [(int(self.lengths[one].min()), int(self.lengths[one].max())) for one in self.groups]
        return told.StudyContent(
            results=self._results(command, seconds, users=users),
            arms=tuple(map(self._figures, self.arms)),
            contrasts=self._contrasts(),
            groups=tuple(
                told.Group(told.group_name(*ends), int(members.sum()))
                for ends, members in zip(names, self.groups, strict=True)
            ),
            registered=registered,
            scored_at=scored_at,
            writers={name: writer_label(writer) for name, writer in writers(self.config).items()},
            currency=self.config.summary.price.currency,
            matching=self._matching(),
        )

    def _system(self, arm: Arm) -> SystemScores:
        cells = self._cells[arm.name]
        table = cells[0].summaries.value
        steps = {} if arm.letter == "f" else dict(table.select(USER, BLOCK_SUMMARIES).iter_rows())
        return SystemScores(
            arm.name,
            Kind.LANGUAGE_MODEL,
            self.config.study.seeds,
            tuple(cell.scores for cell in cells),
            summaries=dict(table.select(USER, SUMMARY).iter_rows()),
            steps=steps,
        )

    def _measured(self, system: SystemScores) -> list[pl.DataFrame]:
        sampler, ks = self.config.candidates.sampler, self.config.evaluation.ks
        return sampled_frames(system, self.protocol, Split.TEST, sampler, metrics_at(ks))

    def _results(self, command: str, seconds: float, *, users: bool) -> Results:
        config, systems = self.config, list(self._systems.values())
        chosen = self._systems[claim(self.arms)[0][0].name]
        cases = (
            drawn_cases(self.protocol, chosen, config.evaluation.report_users, config.seed) if users else None
        )
        tables = Tables(config, self.protocol, self.measure, ())
        return Results(
            name=config.name,
            measure=self.measure,
            systems=tuple(
                System(
                    arm.name,
                    arm.label,
                    Kind.LANGUAGE_MODEL,
                    training_examples=system.runs[0].info.examples,
                    training_negatives=system.runs[0].info.negatives,
                    seconds=float(np.mean([run.info.training_seconds for run in system.runs])),
                    seeds=len(system.seeds),
                )
                for arm, system in zip(self.arms, systems, strict=True)
            ),
            tables=(tables.sampled(systems, config.candidates.sampler),),
            provenance=provenance(
                config,
                self.protocol,
                config.study.seeds,
                command,
                seconds,
                "Holm's method takes the two differences and the growth of the claim together, and all other "
                "pairs of arms as a second family",
            ),
            domain=config.prompt.domain,
            items=self.protocol.prepared.items.height,
            cases=cases,
        )

    def _figures(self, arm: Arm) -> told.ArmFigures:
        cells = self._cells[arm.name]
        asked = sum(len(data.users) for data in self.protocol.splits.values())
        tokens = pl.DataFrame([cell.tokens for cell in cells]).mean().row(0, named=True)
        infos = [cell.scores.info for cell in cells]
        values = self._frames[arm.name][self.measure].to_numpy()
        return told.ArmFigures(
            name=arm.name,
            label=arm.label,
            value=self._estimate(values),
            by_seed=seed_spread(self._by_seed[arm.name])[self.measure].means,
            by_group=tuple(self._estimate(values[members]) for members in self.groups),
            prefix_tokens=tokens["prefix"],
            read_tokens=tokens["read"],
            items=tokens["items"],
            cut_items=round(tokens["cut_items"]),
            cut_summaries=round(tokens["cut_summaries"]),
            ranking_ms=float(np.mean([1000 * info.scoring_seconds / asked for info in infos])),
            training_s=float(np.mean([info.training_seconds for info in infos])),
            failed=cells[0].summaries.value.filter(pl.col(FAILED) != "").height,
            **self._writing(arm, cells[0].written),
        )

    def _writing(self, arm: Arm, written: Artifact[pl.DataFrame]) -> dict[str, float | None]:
        """Tell what a user's summary took; None for what isn't known, such as who wrote a table and how."""
        names = ("calls", "written_tokens", "money", "writing_ms")
        if not arm.writer:
            return dict.fromkeys(names, 0.0)
        if isinstance(writers(self.config)[arm.writer], TableWriter):
            return dict.fromkeys(names)
        table, users = written.value, written.value.height
        if isinstance(writers(self.config)[arm.writer], KeyphraseWriter):
            return {**dict.fromkeys(names, 0.0), "writing_ms": 1000 * written.entry.seconds / users}
        calls = int(table[CALLS].sum())
        unknown = bool(table[PROMPT_TOKENS].null_count() or table[COMPLETION_TOKENS].null_count())
        usage = Usage(calls, 0, int(table[PROMPT_TOKENS].sum()), int(table[COMPLETION_TOKENS].sum()))
        money = cost(usage, self.config.summary.price) if calls else 0.0
        # Answers out of the store took no time here, and somebody's before.
        bill = written.folder.path / BILL
        actual = (json.loads(bill.read_text(encoding="utf-8"))["actual"] or {}) if bill.exists() else {}
        timed = not calls or actual.get("calls_reused") == 0
        return {
            "calls": calls / users,
            "written_tokens": None if unknown else (usage.prompt_tokens + usage.completion_tokens) / users,
            "money": None if money is None or (calls and unknown) else money / users,
            "writing_ms": 1000 * written.entry.seconds / users if timed else None,
        }

    def _estimate(self, values: NDArray[np.float64]) -> Estimate:
        [estimate] = bootstrap_means(values[:, None], self.config.evaluation.bootstrap, self.config.seed)
        return estimate

    def _contrasts(self) -> tuple[told.Contrast, ...]:
        evaluation, seed = self.config.evaluation, self.config.seed
        primary = [(first.name, second.name) for first, second in claim(self.arms)]
        pairs = [*primary, *(pair for pair in self._pairs() if pair not in primary)]
        values = {name: frame[self.measure].to_numpy() for name, frame in self._frames.items()}
        gains = [values[first] - values[second] for first, second in pairs]
        labels = {arm.name: arm.label for arm in self.arms}
        growths = [trend(gain, self.lengths, resamples=evaluation.bootstrap, seed=seed) for gain in gains]
        tests = [
            test
            for family in (primary, pairs[2:])
            for test in paired_tests(
                self._frames, family, [self.measure], resamples=evaluation.bootstrap, seed=seed
            )
        ]
        *adjusted, growth_p = map(float, holm([tests[0].p, tests[1].p, growths[0][1]]))
        tests[:2] = [replace(test, p_holm=p) for test, p in zip(tests, adjusted, strict=False)]
        return tuple(
            told.Contrast(
                labels[test.first],
                labels[test.second],
                test,
                tuple(self._estimate(gain[members]) for members in self.groups),
                growth,
                growth_p if place == 0 else None,
            )
            for place, (test, gain, (growth, _)) in enumerate(zip(tests, gains, growths, strict=True))
        )

    def _pairs(self) -> list[tuple[str, str]]:
        """Pair every arm with summary and recent items with those that it is to be read against."""
        found = []
        for own in (arm for arm in self.arms if arm.letter == "d"):
            for other in self.arms:
                alike = other.writer in ("", own.writer) and other.recent in (None, own.recent)
                if other.letter != "d" and alike:
                    found.append((own.name, other.name))
        a = next((arm.name for arm in self.arms if arm.letter == "a"), None)
        return [*found, *([(claim(self.arms)[0][1].name, a)] if a else [])]

    def _matching(self) -> tuple[tuple[str, Estimate], ...]:
        """Ask TF-IDF, without any model, how near the texts of the prompts are to the target."""
        data, recent = self.protocol.splits[Split.TEST], self.config.study.recent_items[0]
        system = TextSimilarity()
        system.fit(self.protocol.data)
        found = [
            (
                f"the {recent} most recent items",
                self._near(system, [row[-recent:] for row in data.histories]),
            ),
            ("the whole history", self._near(system, data.histories)),
        ]
        items = self.protocol.prepared.items
        for arm in self.arms:
            if arm.letter in "df" and arm.recent == recent:
                told_of = self._systems[arm.name].summaries
                texts = [told_of.get(user, "") for user in data.users]
                fields = self.protocol.data.fields or items.columns[1:]
                table = pl.DataFrame({ITEM: data.users} | dict.fromkeys(fields, "") | {fields[0]: texts})
                # A summary is an item that nobody can take, and the one that its user has taken.
                with_texts = system.with_items(table, np.arange(items.height, dtype=np.int32))
                places = [np.array([items.height + user], dtype=np.int32) for user in range(len(data.users))]
                whose = "own" if arm.letter == "d" else "another user’s"
                found.append((f"{whose} summary ({arm.writer})", self._near(with_texts, places)))
        return tuple(found)

    def _near(self, system: TextSimilarity, histories: Sequence[Places]) -> Estimate:
        data, sampler = self.protocol.splits[Split.TEST], self.config.candidates.sampler
        scores = score_places(system, data.users, histories, data.candidates[sampler])
        above, tied = place_target(scores, data.columns[sampler])
        metric = NDCG(k=max(self.config.evaluation.ks))
        return self._estimate(expected_metrics(above, tied, scores.shape[1] - 1, [metric])[metric.name])
