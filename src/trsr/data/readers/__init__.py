"""One reader a format, and how a format is found out."""
