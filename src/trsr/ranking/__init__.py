"""Prompts become p(yes): encoding, training, scoring."""
