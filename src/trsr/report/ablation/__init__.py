"""The page of an ablation: one setting changed at a time, and what that did."""
