"""The story of an ablation: one setting changed at a time, on the same users and candidates.

Variants with equal settings are one variant, trained once a seed; what is complete is read
from its folder, so that an ablation that was killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, write_json, write_text
from trsr.config import Config
from trsr.config.data import DemoData
from trsr.config.evaluation import DimensionName
from trsr.config.summary import TableWriter
from trsr.errors import ConfigError
from trsr.evaluation.metrics import metrics_at
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.statistics import Estimate, average_seeds, paired_tests, seed_spread
from trsr.experiments.progress import Job, Progress
from trsr.experiments.progress import Work as Sort
from trsr.experiments.protocol import comparison_protocol, require_users
from trsr.experiments.report import provenance
from trsr.experiments.scores import SystemScores, sampled_frames
from trsr.experiments.tables import rounded
from trsr.experiments.variants import Dimension, Value, Variant, answer_variant, dimension, is_own, variant
from trsr.progress import text_table
from trsr.records import Split
from trsr.report import ablation as told
from trsr.report.page import render
from trsr.report.results import Kind
from trsr.report.words import interval, p_value
from trsr.stages.caption import caption
from trsr.stages.prepare import prepare
from trsr.stages.work import Work

_FOLDER: Final = "ablation"
_UNPLANTED: Final = "nothing-planted"


@dataclass(frozen=True, slots=True)
class Ablated:
    """Where an ablation's files lie."""

    figures: Path
    page: Path


def ablate(
    config: Config,
    *,
    only: Sequence[str] | None = None,
    command: str = "trsr ablate",
    say: Callable[[str], None] = print,
) -> Ablated:
    """Train and score the variants of every dimension, and write ``ablation`` of the run folder.

    `only` names the dimensions wanted, ``grid`` among them; None for all of the settings. `command`, the
    command line, stands in the report. What is said ends with the table. Raises `ConfigError` when `only`
    names an unknown dimension. When a variant fails, what was finished is kept, and the next ablation goes
    on from there.
    """
    started = time.monotonic()
    require_users(config, "trsr ablate")
    names, crossed = _wanted(config, only)
    # Choices are not made here, so one sampler, the run's own, is enough.
    config = config.model_copy(
        update={"comparison": config.comparison.model_copy(update={"samplers": (config.candidates.sampler,)})}
    )
    dimensions = [dimension(name, config) for name in names]
    asked = [variant([value], config) for each in dimensions for value in each.values]
    asked += _crossed(config)[2].values() if crossed else ()
    measured = Measured(config, RunFolder(config.folder).path / _FOLDER, asked, say)
    grids = _grids(config, measured, say) if crossed else ()
    panels = tuple(_panel(each, measured) for each in dimensions)
    content = told.AblationContent(
        name=config.name,
        measure=measured.measure,
        sampler=config.candidates.sampler,
        candidates=config.candidates.negatives + 1,
        split=config.ablation.split,
        panels=panels,
        provenance=provenance(
            config,
            measured.protocol,
            config.ablation.seeds,
            command,
            time.monotonic() - started,
            "Holm's method takes the tests of one panel together",
        ),
        grids=grids,
    )
    written = Ablated(measured.folder / "ablation.json", measured.folder / "ablation.html")
    write_json(_figures(content), written.figures)
    write_text(render(content), written.page)
    say(_text(content))
    return written


class Measured:
    """Variants of one configuration, each trained once a seed however many dimensions ask for it.

    `asked` are all variants that will be asked for, to foretell the time.
    """

    def __init__(
        self, config: Config, folder: Path, asked: Iterable[Variant], say: Callable[[str], None]
    ) -> None:
        self.config = config
        self.folder = folder
        run = Work(config, RunFolder(config.folder), say)
        self._prepared = caption(run, prepare(run))
        self.protocol = comparison_protocol(run, self._prepared)
        self.measure = f"NDCG@{max(config.evaluation.ks)}"
        self._work = Work(config, RunFolder(folder / "variants"), say)
        names = dict.fromkeys(each.name for each in asked)
        jobs = [Job(Sort.LANGUAGE_MODEL, name, seed) for name in names for seed in config.ablation.seeds]
        self._progress = Progress(jobs, say)
        self._frames: dict[str, list[pl.DataFrame]] = {}
        self._seconds: dict[str, float] = {}

    def frames(self, asked: Variant) -> list[pl.DataFrame]:
        """Give the metrics user by user, one frame a seed."""
        if asked.name not in self._frames:
            config, seeds = self.config, self.config.ablation.seeds
            runs = tuple(
                answer_variant(self._work, self._prepared, self.protocol, asked, seed, self._progress)[1]
                for seed in seeds
            )
            system = SystemScores(asked.name, Kind.LANGUAGE_MODEL, seeds, runs)
            self._frames[asked.name] = sampled_frames(
                system,
                self.protocol,
                Split(config.ablation.split),
                config.candidates.sampler,
                metrics_at(config.evaluation.ks),
            )
            self._seconds[asked.name] = sum(run.info.training_seconds for run in runs) / len(runs)
        return self._frames[asked.name]

    def seconds(self, asked: Variant) -> float:
        """Give the mean training time over seeds."""
        self.frames(asked)
        return self._seconds[asked.name]

    def estimate(self, asked: Variant) -> Estimate:
        """Give the primary measure's mean over users, each averaged over seeds first, with its interval."""
        evaluation = self.config.evaluation
        averaged = average_seeds(self.frames(asked))
        return summarise(averaged, evaluation.bootstrap, self.config.seed).metrics[self.measure]

    def by_seed(self, asked: Variant) -> tuple[float, ...]:
        """Give the primary measure's mean over users at each seed."""
        return seed_spread(self.frames(asked))[self.measure].means

    def compared(self, pairs: Sequence[tuple[Variant, Variant]]) -> list[tuple[Estimate, float]]:
        """Test pairs as one family; give each difference with its interval, and its adjusted p."""
        averaged = {each.name: average_seeds(self.frames(each)) for pair in pairs for each in pair}
        names = [(first.name, second.name) for first, second in pairs]
        tests = paired_tests(
            averaged,
            names,
            [self.measure],
            resamples=self.config.evaluation.bootstrap,
            seed=self.config.seed,
        )
        return [(test.difference, test.p_holm) for test in tests]


def _wanted(config: Config, only: Sequence[str] | None) -> tuple[list[DimensionName], bool]:
    names = list(config.ablation.dimensions)
    if isinstance(config.summary.writer, TableWriter):  # no call reads a block
        names = [name for name in names if name != "block_size"]
    if only is None:
        return names, config.ablation.grid
    unknown = [name for name in only if name not in (*names, "grid")]
    if unknown or not only:
        asked = ", ".join(map(repr, unknown)) or "nothing"
        message = f"--only must name dimensions among {', '.join([*names, 'grid'])}, got {asked}"
        raise ConfigError(message)
    return [name for name in names if name in only], "grid" in only


def _panel(each: Dimension, measured: Measured) -> told.Panel:
    config = measured.config
    variants = [variant([value], config) for value in each.values]
    default = next((made for made, value in zip(variants, each.values, strict=True) if is_own(value, config)))
    others = [made for made in variants if made.name != default.name]
    tested = measured.compared([(other, default) for other in others]) if others else []
    p = {other.name: adjusted for other, (_, adjusted) in zip(others, tested, strict=True)}
    return told.Panel(
        name=each.name.replace("_", " "),
        setting=each.setting,
        question=each.question,
        variants=tuple(
            told.Variant(
                label=value.label,
                value=measured.estimate(made),
                by_seed=measured.by_seed(made),
                is_default=made.name == default.name,
                p=p.get(made.name),
                users=measured.frames(made)[0].height,
                seconds=measured.seconds(made),
            )
            for made, value in zip(variants, each.values, strict=True)
        ),
        numeric=each.numeric,
    )


def _grids(config: Config, measured: Measured, say: Callable[[str], None]) -> tuple[told.Grid, ...]:
    """Cross summary and recent items; on the generated shop once more with nothing planted."""
    demo = config.data if isinstance(config.data, DemoData) else None
    if demo is None or not demo.planted:
        return (_grid(measured, "summary × recent items", "The data as it is.", expects=False),)
    planted = _grid(
        measured,
        "planted",
        "A long-term taste, which older items show, and a new need, which the newest five show; the target "
        "often has other words than both.",
        expects=True,
    )
    bare = config.model_copy(
        update={
            "data": demo.model_copy(update={"planted": False}),
            "out": measured.folder / _UNPLANTED,
            "summary": config.summary.model_copy(update={"store": config.store_url}),
        }
    )
    told_of_nothing = "The same texts, every history's items shuffled among users: there is nothing to find."
    unplanted = Measured(bare, measured.folder / _UNPLANTED, _crossed(bare)[2].values(), say)
    return planted, _grid(unplanted, "nothing planted", told_of_nothing, expects=False)


def _grid(measured: Measured, name: str, data: str, *, expects: bool) -> told.Grid:
    rows, columns, made = _crossed(measured.config)
    (without, summary), (none, recent) = rows, columns
    orders = [
        ((summary, recent), (without, recent), "Only the summary tells of the long-term taste."),
        ((summary, recent), (summary, none), "Recent items tell of the new need most clearly."),
        ((without, recent), (without, none), "A need is better than nothing."),
        ((summary, none), (without, none), "A taste is better than nothing."),
    ]
    compared = measured.compared([(made[better], made[worse]) for better, worse, _ in orders])
    expectations = tuple(
        told.Expectation(better, worse, reason, difference)
        for (better, worse, reason), (difference, _) in zip(orders, compared, strict=True)
    )
    return told.Grid(
        name=name,
        data=data,
        rows=rows,
        columns=columns,
        cells=tuple(
            told.Cell(row, column, measured.estimate(one), measured.by_seed(one))
            for (row, column), one in made.items()
        ),
        expectations=expectations if expects else (),
    )


def _crossed(
    config: Config,
) -> tuple[tuple[str, ...], tuple[str, ...], Mapping[tuple[str, str], Variant]]:
    """Give a grid's rows and columns, and the variant of each cell."""
    paradigm = "recurrent" if config.summary.paradigm == "none" else config.summary.paradigm
    shown = config.prompt.recent_items or 5
    rows = {
        "no summary": Value("none", {"summary.paradigm": "none"}),
        f"{paradigm} summary": Value(paradigm, {"summary.paradigm": paradigm}),
    }
    columns = {
        "no recent items": Value("0", {"prompt.recent_items": 0}),
        f"{shown} recent items": Value(str(shown), {"prompt.recent_items": shown}),
    }
    made = {
        (row, column): variant([value, other], config)
        for row, value in rows.items()
        for column, other in columns.items()
    }
    return tuple(rows), tuple(columns), made


def _figures(content: told.AblationContent) -> Any:
    """Put everything but times and the command line into JSON values."""
    values = asdict(content)
    for name in ("seconds", "command"):
        values["provenance"].pop(name)
    for panel in values["panels"]:
        for each in panel["variants"]:
            each.pop("seconds")
    return rounded(values)


def _text(content: told.AblationContent) -> str:
    """Write the panels and grids as aligned text."""
    seeds = len(content.provenance.seeds)
    lines = [f"\n{content.measure} of {content.split} users, {content.sampler} negatives, {seeds} seeds"]
    for panel in content.panels:
        rows = [
            (f"  {one.label}", _figure(one.value), "default" if one.is_default else f"p {p_value(one.p)}")
            for one in panel.variants
        ]
        lines += [f"\n{panel.name} ({panel.setting})", *text_table(rows, left=(0, 2))]
    for grid in content.grids:
        rows = [(f"  {cell.row}, {cell.column}", _figure(cell.value), "") for cell in grid.cells]
        rows += [
            (f"  {' + '.join(one.better)} over {' + '.join(one.worse)}", _figure(one.difference), "")
            for one in grid.expectations
            if one.difference is not None
        ]
        lines += [f"\n{grid.name}", *text_table(rows)]
    return "\n".join(lines)


def _figure(value: Estimate) -> str:
    return f"{value.mean:.3f} ({interval(value)})"
