"""Sources of weather: services and files."""
