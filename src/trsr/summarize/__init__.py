"""Histories become preference summaries: blocks, paradigms, writers, the store of answers."""
