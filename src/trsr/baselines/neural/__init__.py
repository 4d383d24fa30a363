"""Neural systems."""
