"""The Python API, without HTTP; ``import featlink`` exports all of it."""
