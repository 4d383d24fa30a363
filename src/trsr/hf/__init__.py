"""transformers, loaded and trained: the only room that knows its inside."""
