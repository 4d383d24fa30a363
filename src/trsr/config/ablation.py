"""What `trsr ablate` changes, one setting at a time."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trsr.config.section import Section, require_each_once
from trsr.config.summary import KeyphraseWriter, Writer

DimensionName = Literal[
    "summary", "recent_items", "block_size", "writer", "tokens", "negatives", "loss", "method"
]
"""Dimensions of an ablation, by their names in settings and in `--only`."""


class Ablation(Section):
    """What `trsr ablate` varies; everything else stays as the file says."""

    dimensions: tuple[DimensionName, ...] = (
        "summary", "recent_items", "block_size", "writer", "tokens", "negatives", "loss", "method",
    )  # fmt: skip
    """Which settings are varied."""
    recent_items: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 3, 5, 7, 10)
    """Values of `prompt.recent_items`."""
    block_size: tuple[Annotated[int, Field(ge=1)], ...] = (3, 5, 10)
    """Values of `summary.block_size`."""
    writers: tuple[Writer, ...] = (
        KeyphraseWriter(),
        KeyphraseWriter(phrases=2),
        KeyphraseWriter(phrases=12),
        KeyphraseWriter(decay=1.0),
    )
    """Values of `summary.writer`: by default the built-in one with fewer and more phrases, and one that
    never forgets."""
    negatives: tuple[Annotated[int, Field(ge=1)], ...] = (1, 4, 20)
    """Values of `training.negatives`; more than there are candidates are left out."""
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = (2, 8, 32)
    """Ranks of LoRA that stand beside full training."""
    grid: bool = True
    """Cross summary with recent items: both, each alone, none. On the generated shop the expected order is
    checked, and the grid is measured once more with nothing planted."""
    split: Literal["valid", "test"] = "test"
    """Whose figures are shown. To choose a setting by an ablation, take `valid`."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed."""

    @model_validator(mode="after")
    def _each_once(self) -> Ablation:
        require_each_once(self, "dimensions", "recent_items", "block_size", "negatives", "ranks", "seeds")
        return self
