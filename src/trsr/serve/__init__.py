"""The method behind HTTP: an API of its own, and the shapes that other people's stacks speak."""
