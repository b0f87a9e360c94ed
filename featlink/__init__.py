"""The command line and what it drives: launcher, clients, demo."""
