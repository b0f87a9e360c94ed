"""Data sets and weights from the network."""
