"""The built-in forecast: intensity of the next days from its own history, weather, and published forecasts."""
