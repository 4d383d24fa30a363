"""What a run folder says, in a form that two states of the code can be compared by.

``python tests/golden/digest.py RUN > before.json``, change the code, run again, and compare the two
files: every column of every table, every JSON value but seconds and times, the visible text of every
page. Floats are rounded, so that the order of a sum does not show.
"""

import hashlib
import html
import json
import re
import sys
from pathlib import Path

import polars as pl

DIGITS = 5
PASSING = re.compile(
    r"seconds|finished_at|fingerprint|^table$|command|hashes|sha|outputs|total_flos|per_second|runtime"
)
"""Keys of JSON values that say when or where, not what."""


def digest(run: Path) -> dict[str, object]:
    """Return the path of each file in the run folder with what it says."""
    readers = {".parquet": columns, ".json": values, ".html": text, ".csv": columns}
    found = (
        path for path in sorted(run.rglob("*")) if "checkpoints" not in path.parts and path.stem != "seconds"
    )
    return {
        str(path.relative_to(run)): readers[path.suffix](path) for path in found if path.suffix in readers
    }


def columns(path: Path) -> dict[str, str]:
    """Hash each column of a table."""
    frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    lasting = [name for name in frame.columns if not PASSING.search(name)]
    return {name: hashed([rounded(value) for value in frame[name].to_list()]) for name in lasting}


def values(path: Path) -> object:
    """Keep each value of a JSON file that doesn't pass."""
    return rounded(json.loads(path.read_text(encoding="utf-8")))


def text(path: Path) -> list[str]:
    """Keep the words of a page, block by block, without times."""
    page = re.sub(r"(?s)<(style|script)\b.*?</\1>", "", path.read_text(encoding="utf-8"))
    words = html.unescape(re.sub(r"(?s)<[^>]+>", "\n", page))
    words = re.sub(r"\b[\d.,]+ (s|ms|seconds?|minutes?|min|h|hours?)\b", "TIME", words)
    words = re.sub(r"\b[0-9a-f]{64}\b", "SHA", words)
    return [line.strip() for line in words.splitlines() if line.strip()]


def rounded(value: object) -> object:
    """Round floats and leave out what passes, at any depth."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items() if not PASSING.search(str(key))}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value


def hashed(value: object) -> str:
    """Return a short hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]


if __name__ == "__main__":
    json.dump(digest(Path(sys.argv[1])), sys.stdout, indent=1, ensure_ascii=False)
