"""The command line."""

from trsr.cli.app import app, main

__all__ = ["app", "main"]
