"""Generated sections of docs/performance.md, each between two marks of its own."""

from __future__ import annotations

from pathlib import Path


def write_section(page: Path, name: str, text: str) -> None:
    """Replace what stands between the marks of `name`."""
    begin, end = marks(name)
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def marks(name: str) -> tuple[str, str]:
    """Return the lines that begin and end the section."""
    return f"<!-- {name}: begin (written by benchmarks/{name}.py) -->", f"<!-- {name}: end -->"
