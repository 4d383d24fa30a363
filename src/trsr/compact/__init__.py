"""The small language model that is made here, from the catalogue and the histories."""
