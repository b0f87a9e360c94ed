"""Fit reductions to a network, once, for the steps of the channel that need it."""
