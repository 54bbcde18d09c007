"""Connection pools: what waits for a connection, and how long each is held."""
