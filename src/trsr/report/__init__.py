"""Artifacts become one self-contained page."""
