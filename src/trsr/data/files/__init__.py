"""From bytes to columns: lines, delimited text, JSON lines, lists and times written as text."""
