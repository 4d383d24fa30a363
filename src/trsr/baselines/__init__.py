"""Systems without a language model, the floor of every table."""
