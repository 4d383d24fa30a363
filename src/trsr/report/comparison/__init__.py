"""The page of a comparison: all systems on the same users and candidates, with what can be said of them."""
