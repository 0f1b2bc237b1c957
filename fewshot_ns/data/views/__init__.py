"""Which views train, which are tested, and which are looked at."""
