"""A comparison's files: JSON and page with everything, and one table for other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trsr.artifacts import replacing, write_json, write_parquet, write_text
from trsr.experiments.tables import rounded
from trsr.report.page import render
from trsr.report.results import Results, system_rows


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


def publish(results: Results, folder: Path) -> Published:
    """Write all files, each whole or not at all, the page last."""
    written = Published.of(folder)
    write_json(figures(results), written.figures)
    seconds = {system.name: system.seconds for system in results.systems}
    write_json({"systems": seconds, "command": results.provenance.seconds}, written.seconds)
    table = system_rows(results)
    write_parquet(table, written.parquet)
    with replacing(written.csv) as temporary:
        table.write_csv(temporary)
    write_text(render(results), written.page)
    return written


def figures(results: Results) -> dict[str, Any]:
    """Put everything but times and the command line into JSON values, figures to six digits.

    Users' cards are left to the page.
    """
    told = asdict(replace(results, cases=None))
    told.pop("cases")
    for system in told["systems"]:
        system.pop("seconds")
    for name in ("seconds", "command"):
        told["provenance"].pop(name)
    values: dict[str, Any] = rounded(told)
    return values
