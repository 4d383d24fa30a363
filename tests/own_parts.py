"""Parts that no file of the package knows; docs/extending.md shows them in these words."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from trsr.baselines.base import Baseline, history_rows
from trsr.baselines.training_data import Places, TrainingData
from trsr.config.data import FileData
from trsr.config.section import Section
from trsr.config.summary import OwnWriter, Summarization
from trsr.data.dataset import Dataset, Reader
from trsr.data.json_lines import read_json_lines
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import SECOND, assemble
from trsr.evaluation.metrics import Metric
from trsr.records import Block, Finding, Summary
from trsr.summarize.writer import Writer


class EaseSettings(Section):
    l2: float = Field(100.0, gt=0)
    """How much large weights cost."""


class Ease(Baseline):
    """Embarrassingly shallow autoencoder (Steck, 2019)."""

    label = "EASE"
    description = "A linear model of items by items, in closed form."
    counts_interactions = True
    Settings = EaseSettings

    def fit(self, data: TrainingData) -> None:
        taken = history_rows(data.sequences, data.items.height)
        taken.data[:] = 1.0
        gram = (taken.T @ taken).toarray() + self.settings.l2 * np.eye(data.items.height)
        precision = np.linalg.inv(gram)
        self._weights = -precision / np.diag(precision)
        np.fill_diagonal(self._weights, 0.0)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> np.ndarray:
        scores = history_rows(histories, len(self._weights)) @ self._weights
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)


class VisitsData(FileData):
    log: Path
    """JSON lines of visits: visitor, product, title and minute."""


class Visits(Reader):
    """One log holds everything: who looked at what, and what it is called."""

    Settings = VisitsData

    def files(self) -> tuple[Path, ...]:
        return (self.settings.log,)

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        return _read_visits(self.settings, seed=seed)


@noting
def _read_visits(source: VisitsData, notes: Notes, seed: int) -> Dataset:
    visits = read_json_lines(source.log, notes, encoding=source.encoding)
    items = visits.select(FILE, LINE, pl.col("product").alias("item_id"), "title").unique(
        "item_id", keep="first", maintain_order=True
    )
    events = visits.select(
        FILE,
        LINE,
        pl.col("visitor").alias("user_id"),
        pl.col("product").alias("item_id"),
        time=pl.col("minute").cast(pl.Int64) * 60 * SECOND,
    )
    return assemble(items, events, notes, null_words=source.null_words, seed=seed)


class BiasedPrecisionSettings(Section):
    patience: float = Field(0.8, gt=0, lt=1)
    """Chance that somebody who saw one place looks at the next."""


class BiasedPrecision(Metric):
    """Rank-biased precision (Moffat and Zobel, 2008): places count by the chance of being seen."""

    Settings = BiasedPrecisionSettings

    @property
    def name(self) -> str:
        return f"RBP {self.settings.patience:g}"

    def gains(self, ranks: np.ndarray, others: int) -> np.ndarray:
        return (1 - self.settings.patience) * self.settings.patience ** (ranks - 1)


class TitlesSettings(OwnWriter):
    most: int = Field(3, ge=1)
    """Titles that a summary names at most."""


class Titles:
    """Writes what the newest items are called; no model is asked."""

    name = "titles"
    Settings = TitlesSettings

    def __init__(self, config: Any, items: pl.DataFrame, budget: Any) -> None:
        self._most = config.summary.writer.most

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        return Summary("; ".join(item.fields["title"] for item in block.items[-self._most :]))

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        return await self.describe(block, user=user)

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        return summaries[-1]


async def newest(writer: Writer, blocks: Sequence[Block], settings: Summarization) -> Summary:
    """Describe the newest block, and nothing else."""
    return await writer.describe(blocks[-1]) if blocks else Summary("")
