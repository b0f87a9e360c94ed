"""Errors of the command line: one line, exit code 1."""

from shared.errors import FeatlinkError


class CommandError(FeatlinkError):
    """Something the person at the terminal can put right."""

    title = "Cannot go on"
