"""All candidates of a user in one row: what they share is computed once."""
