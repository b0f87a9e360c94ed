"""Errors of the command line: one line and exit code 1."""

from featlink.shared.errors import FeatlinkError


class CommandError(FeatlinkError):
    """An error that the user can fix."""

    title = "Cannot go on"


class RefusalError(CommandError):
    """A service answered with a problem.

    Args:
        message: in one line.
        status: HTTP status.
        title: of the problem (RFC 9457); the same for every problem of a kind.
    """

    def __init__(self, message: str, status: int, title: str) -> None:
        super().__init__(message)
        self.status = status
        self.title = title
