"""Language models that write: behind a server, on this machine, and the queue of calls between."""
