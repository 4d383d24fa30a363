"""What baselines learn from, small enough to be worked out by hand."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from trsr.baselines.training_data import Places, TrainingData

ITEMS = pl.DataFrame(
    {
        "item_id": ["drill", "saw", "tea", "empty"],
        "title": ["cordless drill", "cordless saw", "green tea", ""],
        "brand": ["Zagg", "Bolt", "Zagg", ""],
    }
)
DRILL, SAW, TEA, EMPTY = range(4)


def row(*places: int) -> Places:
    """A history, or a user's candidates."""
    return np.array(places, dtype=np.int32)


def learnt_from(
    sequences: Sequence[Sequence[int]] = (), items: pl.DataFrame = ITEMS, fields: tuple[str, ...] = ()
) -> TrainingData:
    """Training sequences of a catalogue, without validation users."""
    return TrainingData(
        items=items,
        fields=fields,
        sequences=tuple(row(*sequence) for sequence in sequences),
        valid_users=(),
        valid_histories=(),
        valid_candidates=np.empty((0, 0), np.int32),
        valid_targets=np.empty(0, np.int64),
    )


WITHOUT_SPACES = [
    ["軽量 スピーカー 音響", "大型 イヤホン 音響", "植木鉢 園芸", "剪定 園芸", "steel 園芸 hammer"],
    ["无线 蓝牙 耳机", "有线 耳机", "玻璃 茶壶", "陶瓷 茶壶", "steel 茶壶 hammer"],
    ["เครื่อง ชง กาแฟ", "ถ้วย กาแฟ", "รองเท้า วิ่ง", "รองเท้า หนัง", "steel รองเท้า hammer"],
]
"""Titles with the spaces that nobody writes: the first two are alike, and so are the other three."""


def titled(titles: Sequence[str]) -> pl.DataFrame:
    """A catalogue of titles."""
    return pl.DataFrame({"item_id": [str(place) for place in range(len(titles))], "title": titles})
