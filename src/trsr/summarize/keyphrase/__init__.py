"""The built-in writer: key phrases of the catalogue, weighed over time, told in plain sentences."""
