"""Fit to a network, once, what steps of the channel need, and what attacks them."""
