"""One reader a format: from its files to items and histories, with what was noticed on the way."""
