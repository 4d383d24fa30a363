"""A comparison's files: JSON and page with everything, and one table for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trsr.artifacts import replacing, write_json, write_parquet, write_text
from trsr.experiments.tables import CATALOGUE, rounded
from trsr.report.comparison.page import render
from trsr.report.comparison.results import ComparisonContent, Standing


@dataclass(frozen=True, slots=True)
class Published:
    """Where a comparison's files lie.

    Figures are everything but times, as JSON: the same for every repetition with the same settings. Both
    tables have one row a system; every column says among what its figure was measured.
    """

    figures: Path
    seconds: Path
    csv: Path
    parquet: Path
    page: Path

    @classmethod
    def of(cls, folder: Path) -> Published:
        """Name the files of a comparison in `folder`."""
        return cls(
            figures=folder / "comparison.json",
            seconds=folder / "seconds.json",
            csv=folder / "comparison.csv",
            parquet=folder / "comparison.parquet",
            page=folder / "comparison.html",
        )


def publish(content: ComparisonContent, folder: Path) -> Published:
    """Write all files, each whole or not at all, the page last."""
    written = Published.of(folder)
    write_json(figures(content), written.figures)
    seconds = {system.name: system.seconds for system in content.systems}
    write_json({"systems": seconds, "command": content.provenance.seconds}, written.seconds)
    table = pl.DataFrame(rows(content), infer_schema_length=None)
    write_parquet(table, written.parquet)
    with replacing(written.csv) as temporary:
        table.write_csv(temporary)
    write_text(render(content), written.page)
    return written


def figures(content: ComparisonContent) -> dict[str, Any]:
    """Put everything but times and the command line into JSON values, figures to six digits.

    Users' cards are left to the page.
    """
    told = asdict(content)
    told.pop("duels")
    for system in told["systems"]:
        system.pop("seconds")
    for name in ("seconds", "command"):
        told["provenance"].pop(name)
    values: dict[str, Any] = rounded(told)
    return values


def rows(content: ComparisonContent) -> list[dict[str, Any]]:
    """Make one row a system: how it was trained, then each figure under the name of its candidates.

    Every row has the same columns in the same order; what a system lacks is None.
    """
    measured = blocks(content)
    users = {standing.system: standing.users for _, standings in measured for standing in standings}
    table = []
    for system in content.systems:
        row: dict[str, Any] = {
            "system": system.name,
            "kind": system.kind.value,
            "users": users.get(system.name),
            "seeds": system.seeds,
            "training_examples": system.training_examples,
            "training_negatives": system.training_negatives,
            "training_seconds": system.seconds,
        }
        for name, standings in measured:
            for standing in standings:
                if standing.system == system.name:
                    row |= _told(name, standing)
        table.append(row)
    columns = dict.fromkeys(column for row in table for column in row)
    return [{column: row.get(column) for column in columns} for row in table]


def blocks(content: ComparisonContent) -> list[tuple[str, Sequence[Standing]]]:
    """Give all rows of figures by what they were measured among: samplers, catalogue, two stages."""
    found: list[tuple[str, Sequence[Standing]]] = [
        (table.sampler, table.standings) for table in content.tables
    ]
    if content.catalogue is not None:
        found.append((CATALOGUE, content.catalogue.standings))
    if content.two_stage is not None:
        found.append(("two-stage", content.two_stage.standings))
    return found


def _told(name: str, standing: Standing) -> dict[str, float | None]:
    told: dict[str, float | None] = {f"{name} tie rate": standing.tie_rate}
    for metric, estimate in standing.metrics.items():
        means = standing.by_seed.get(metric, ())
        told |= {
            f"{name} {metric}": estimate.mean,
            f"{name} {metric} low": estimate.low,
            f"{name} {metric} high": estimate.high,
            f"{name} {metric} sd over seeds": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        }
        if metric in standing.exact:
            told[f"{name} {metric} expected"] = standing.exact[metric]
        if metric in standing.p_against_best:
            told[f"{name} {metric} p against best"] = standing.p_against_best[metric]
    return told
