"""Files by which other tools score, or are scored on, exactly the same candidates."""
