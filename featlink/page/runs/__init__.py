"""Runs: what a sweep or a client is collecting at the cloud."""
