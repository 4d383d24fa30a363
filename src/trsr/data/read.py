"""From the settings of a data source to its `Dataset`, whatever the format."""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from trsr.config.data import (
    Amazon5CoreData,
    AmazonM2Data,
    AmazonReviewsData,
    DataSource,
    DemoData,
    MicroLensData,
    MindData,
    TableData,
)
from trsr.data.dataset import Dataset, checked
from trsr.data.demo import generate
from trsr.data.files.require import require_files
from trsr.data.formats.amazon_5core import amazon_5core_files, read_amazon_5core
from trsr.data.formats.amazon_m2 import amazon_m2_files, read_amazon_m2
from trsr.data.formats.amazon_reviews import amazon_reviews_files, read_amazon_reviews
from trsr.data.formats.microlens import microlens_files, read_microlens
from trsr.data.formats.mind import mind_files, read_mind
from trsr.data.formats.tables import read_tables, table_files
from trsr.records import Finding


def read(source: DataSource, seed: int = 0) -> tuple[Dataset, tuple[Finding, ...]]:
    """Read, repair and check a data source.

    Parameters
    ----------
    source
        The `data` section of a configuration.
    seed
        The run's seed: events of one time are drawn by it where the files have no order of time.

    Returns
    -------
    tuple[Dataset, tuple[Finding, ...]]
        The data, and everything that was noticed, repaired or left out on the way.

    Raises
    ------
    DataError
        When a file or column is missing, a file can't be read, or nothing is left.
    """
    input_files(source)
    match source:
        case DemoData():
            return checked(generate(source)), ()
        case MindData():
            return read_mind(source)
        case AmazonM2Data():
            return read_amazon_m2(source)
        case AmazonReviewsData():
            return read_amazon_reviews(source, seed)
        case Amazon5CoreData():
            return read_amazon_5core(source)
        case MicroLensData():
            return read_microlens(source)
        case TableData():
            return read_tables(source, seed)
        case other:
            assert_never(other)


def input_files(source: DataSource) -> tuple[Path, ...]:
    """List the files that a source is read from, in a fixed order; none for generated data.

    Raises
    ------
    DataError
        When a file that the format needs does not exist.
    """
    match source:
        case DemoData():
            return ()
        case MindData():
            return require_files(mind_files(source))
        case AmazonM2Data():
            return require_files(amazon_m2_files(source))
        case AmazonReviewsData():
            return require_files(amazon_reviews_files(source))
        case Amazon5CoreData():
            return require_files(amazon_5core_files(source))
        case MicroLensData():
            return require_files(microlens_files(source))
        case TableData():
            return require_files(table_files(source))
        case other:
            assert_never(other)
