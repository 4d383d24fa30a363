"""The fused ranker: the language model's p(yes) and the scores of other systems, joined by learnt weights."""
