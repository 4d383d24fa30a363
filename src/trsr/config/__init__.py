"""The configuration: declared once, typed, frozen, every field with its meaning."""

from trsr.config.load import Config, dump, load, parse_overrides

__all__ = ["Config", "dump", "load", "parse_overrides"]
