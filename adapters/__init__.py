"""Everything that talks to the world outside: grids, clusters, stores."""
