"""A Hub on loopback for tests; see `server`."""
