"""The JSON file beside a saved system's weights."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from trsr.baselines.sequential.settings import DEFAULTS, SequentialName, Settings
from trsr.baselines.sequential.training import TrainingRecord
from trsr.errors import ArtifactError

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Card:
    """What makes a saved system whole besides its weights.

    Parameters
    ----------
    format
        Version of the file's form.
    name, seed, n_items, settings
        What the network is made from.
    record
        How it was trained.
    """

    format: int
    name: SequentialName
    seed: int
    n_items: int
    settings: Settings
    record: TrainingRecord

    def to_json(self) -> dict[str, Any]:
        """Turn it into values that JSON knows; a figure that is no number becomes null."""
        values = asdict(self)
        if math.isnan(self.record.validation):
            values["record"]["validation"] = None
        return values


def read_card(path: Path) -> Card:
    """Read a card.

    Raises
    ------
    ArtifactError
        When the file is missing, damaged or of another version.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["record"]["validation"] is None:
            values["record"]["validation"] = math.nan
        settings, record = Settings(**values.pop("settings")), TrainingRecord(**values.pop("record"))
        card = Card(settings=settings, record=record, **values)
        if card.format != FORMAT or card.name not in DEFAULTS:
            message = f"form {card.format}, system {card.name!r}"
            raise ValueError(message)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path}: no saved sequential system of this version ({error}); train it again"
        raise ArtifactError(message) from error
    return card
