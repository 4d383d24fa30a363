"""Every format of data: read by its settings, or found out from the files."""

from __future__ import annotations

from pathlib import Path

from trsr.config.data import Source
from trsr.config.load import load
from trsr.data.dataset import Dataset, Reader, checked
from trsr.data.readers.tables import SUFFIXES
from trsr.data.text_files import require_files
from trsr.errors import DataError
from trsr.records import Finding
from trsr.registry import READERS, find_part


def read(source: Source, seed: int = 0) -> tuple[Dataset, tuple[Finding, ...]]:
    """Read, repair and check a data source; the findings are all that was noticed, repaired or left out.

    Events of one time are drawn by the seed where the files have no order of time. Raises DataError
    when a file or column is missing, a file can't be read, or nothing is left.
    """
    input_files(source)
    dataset, findings = _reader(source).read(seed)
    return checked(dataset), findings


def input_files(source: Source) -> tuple[Path, ...]:
    """List the files that a source is read from, in a fixed order; none for generated data.

    Raises DataError when a file that the format needs does not exist.
    """
    return require_files(_reader(source).files())


def _reader(source: Source) -> Reader:
    made: Reader = find_part("data format", source.format, READERS)(source)
    return made


def detect(path: Path) -> Source:
    """Recognise the format of a folder, of the folder of a file, or the `data` section of a YAML file.

    Raises DataError when there is nothing, or nothing that is known, and ConfigError when the YAML
    file is no valid configuration.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return load(path).data
    if not path.exists():
        message = f"{path}: no such file or folder; give a folder of data, or a configuration (.yaml)"
        raise DataError(message)
    is_table = path.is_file() or path.name.lower().endswith(SUFFIXES)
    folder = path.parent if is_table else path
    entries = list(folder.iterdir())
    names = {entry.name for entry in entries}
    readers: list[type[Reader]] = [find_part("data format", name, READERS) for name in READERS]
    for reader in readers:
        if source := reader.detect(folder, names):
            return source
    there = ", ".join(sorted(entry.name for entry in entries if entry.is_file())[:12]) or "no files"
    *signs, last = (reader.signs for reader in readers if reader.signs)
    message = (
        f"{folder}: no known data format here (found {there}). Known are {', '.join(signs)} and {last}. For "
        "other names or a reader of your own write a configuration with a `data` section and give that file"
    )
    raise DataError(message)
