"""The stages of one tick, one file each; only this layer changes state."""
