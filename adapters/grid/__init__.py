"""Sources of carbon intensity."""
