"""A table of the page: which figure is best, which can't be told from it, and how far seeds spread."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Final

from trsr.evaluation.statistics import Estimate
from trsr.report.comparison.results import Roster, Standing, System
from trsr.report.measures import in_order

LEVEL: Final = 0.05
"""A difference counts as told apart when its p is below."""
_COLUMNS: Final = (
    *("candidates", "system", "label", "kind", "measure", "mean", "low", "high", "seed_sd", "exact"),
    *("p_against_best", "users", "tie_rate", "training_examples", "training_negatives", "seconds", "seeds"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One measure of one system.

    Parameters
    ----------
    spread
        Standard deviation over seeds; None with fewer than two.
    is_best
        The highest mean of the column.
    p
        Adjusted p against the best; None for the best itself, and where nothing was tested.
    """

    value: Estimate
    spread: float | None
    is_best: bool
    p: float | None

    @property
    def is_tied(self) -> bool:
        """Whether the test could not tell it from the best."""
        return not self.is_best and self.p is not None and self.p >= LEVEL


@dataclass(frozen=True, slots=True)
class Line:
    """One row: the system, its cells by measure, and the record that they come from."""

    system: System
    label: str
    cells: Mapping[str, Cell]
    standing: Standing


@dataclass(frozen=True, slots=True)
class Board:
    """All rows of one table, by falling primary measure; rows without it come last.

    `sampler` is as in `Table.sampler`; `names` are the measures of the columns, in order.
    """

    sampler: str
    measure: str
    names: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def has_exact(self) -> bool:
        """Whether any row has exact expectations."""
        return any(line.standing.exact for line in self.lines)

    @property
    def exact_names(self) -> tuple[str, ...]:
        """Measures that have exact expectations, in the order of the columns."""
        return in_order(
            [
                name
                for line in self.lines
                for name in (*self.names, *line.standing.exact)
                if any(name in row.standing.exact for row in self.lines)
            ]
        )

    @property
    def is_tested(self) -> bool:
        """Whether any row was tested against the best in the primary measure."""
        return any(self.measure in line.standing.p_against_best for line in self.lines)


def board(sampler: str, standings: Iterable[Standing], roster: Roster, measure: str) -> Board:
    """Put rows in order and mark the best figures.

    Examples
    --------
    >>> rows = [
    ...     Standing("a", 9, {"AUC": Estimate(0.5, 0.4, 0.6)}, p_against_best={"AUC": 0.2}),
    ...     Standing("b", 9, {"AUC": Estimate(0.7, 0.6, 0.8)}),
    ... ]
    >>> made = board("uniform", rows, Roster(()), "AUC")
    >>> [(line.label, line.cells["AUC"].is_best, line.cells["AUC"].is_tied) for line in made.lines]
    [('b', True, False), ('a', False, True)]
    """
    rows = list(standings)
    names = in_order(name for row in rows for name in row.metrics)
    best = {name: _highest(row.metrics[name].mean for row in rows if name in row.metrics) for name in names}
    lines = [
        Line(
            roster.system(row.system),
            roster.label(row.system),
            {name: _cell(row, name, best[name]) for name in names if name in row.metrics},
            row,
        )
        for row in rows
    ]
    lines.sort(key=lambda line: (-_mean(line, measure), roster.place(line.system.name)))
    return Board(sampler, measure, names, tuple(lines))


def to_csv(boards: Iterable[Board]) -> str:
    """Write all tables as one, a row per system and measure, with full precision.

    Examples
    --------
    >>> rows = [Standing("a", 9, {"AUC": Estimate(0.5, 0.4, 0.6)})]
    >>> print(to_csv([board("uniform", rows, Roster(()), "AUC")]))
    candidates,system,label,kind,measure,mean,low,high,seed_sd,exact,p_against_best,users,tie_rate,...
    uniform,a,a,baseline,AUC,0.5,0.4,0.6,,,,9,,,,,1
    """
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for made in boards:
        for line in made.lines:
            system, row = line.system, line.standing
            for name, cell in line.cells.items():
                value = cell.value
                named = (made.sampler, system.name, line.label, system.kind.value, name)
                measured = (value.mean, value.low, value.high, cell.spread, row.exact.get(name), cell.p)
                trained = (system.training_examples, system.training_negatives, system.seconds, system.seeds)
                writer.writerow((*named, *measured, row.users, row.tie_rate, *trained))
    return stream.getvalue()


def _cell(row: Standing, name: str, best: float) -> Cell:
    seeds = row.by_seed.get(name, ())
    spread = statistics.stdev(seeds) if len(seeds) > 1 else None
    value = row.metrics[name]
    return Cell(value, spread, value.mean == best, row.p_against_best.get(name))


def _mean(line: Line, measure: str) -> float:
    mean = line.cells[measure].value.mean if measure in line.cells else math.nan
    return -math.inf if math.isnan(mean) else mean


def _highest(means: Iterable[float]) -> float:
    return max((mean for mean in means if not math.isnan(mean)), default=math.nan)
