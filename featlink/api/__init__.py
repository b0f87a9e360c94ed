"""The Python API, without HTTP; ``import featlink`` has all of it."""
