"""Raw files become a Dataset; a Dataset becomes histories, targets and frozen candidates."""
