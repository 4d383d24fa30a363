"""One file a stage: reads artifacts, calls one room, writes artifacts."""
