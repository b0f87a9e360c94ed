"""Errors of the command line: one line and exit code 1."""

from shared.errors import FeatlinkError


class CommandError(FeatlinkError):
    """An error that the user can fix."""

    title = "Cannot go on"
