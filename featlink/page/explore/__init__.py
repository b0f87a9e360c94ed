"""Finished sweeps: curves, the pictures behind a point, and what to send over which link."""
