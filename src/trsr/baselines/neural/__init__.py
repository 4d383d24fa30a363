"""Neural systems."""

from trsr.baselines.neural.network import SEQUENTIAL_NAMES, SequentialName, Settings
from trsr.baselines.neural.system import Sequential, load_sequential, open_sequential
from trsr.baselines.neural.training import TrainingRecord

__all__ = [
    "SEQUENTIAL_NAMES",
    "Sequential",
    "SequentialName",
    "Settings",
    "TrainingRecord",
    "load_sequential",
    "open_sequential",
]
