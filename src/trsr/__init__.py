"""Text-rich sequential recommendation with language models."""
