"""Places that remember jobs."""
