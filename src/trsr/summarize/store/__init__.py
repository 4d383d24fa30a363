"""The store of model answers: every answer that was paid for, kept once, for good."""

from trsr.summarize.store.answers import Store, Together
from trsr.summarize.store.database import Question

__all__ = ["Question", "Store", "Together"]
