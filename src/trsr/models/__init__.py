"""Language models: local, behind a server, and the built-in compact one."""
