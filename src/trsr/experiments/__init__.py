"""Experiments: many systems or many settings, measured side by side."""
