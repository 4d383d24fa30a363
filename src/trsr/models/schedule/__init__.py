"""Sending calls to a server that has limits, is busy, fails, and comes back."""
