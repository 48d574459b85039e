"""Shipped data: example settings, intensity, hardware power, the demo."""
