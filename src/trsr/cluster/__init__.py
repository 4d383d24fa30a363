"""Summaries and scores on an existing Ray cluster: same functions, same store, same results."""
