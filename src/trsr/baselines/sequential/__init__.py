"""Neural systems over the order of items, made with torch: NCF, DIN, Caser, GRU4Rec, SASRec, BERT4Rec."""

from trsr.baselines.sequential.sequential import Sequential, load_sequential, open_sequential
from trsr.baselines.sequential.settings import SEQUENTIAL_NAMES, SequentialName, Settings
from trsr.baselines.sequential.training import TrainingRecord

__all__ = [
    "SEQUENTIAL_NAMES",
    "Sequential",
    "SequentialName",
    "Settings",
    "TrainingRecord",
    "load_sequential",
    "open_sequential",
]
