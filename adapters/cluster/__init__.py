"""Places that run jobs."""
