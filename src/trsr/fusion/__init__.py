"""The fused ranker: the language model and other systems, joined by what validation says."""
