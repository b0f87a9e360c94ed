"""Sweeps: a data set under many conditions, on one of several engines, stopped and continued at will."""
