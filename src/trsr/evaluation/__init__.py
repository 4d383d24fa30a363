"""Scores become metrics: per user first, the mean last, with intervals."""
