"""Edges: HTTP, command line, settings, reports, and the wiring of it all."""
