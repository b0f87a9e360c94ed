"""Report missing packages by a one-line message."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_OWN = "featlink"


@contextlib.contextmanager
def required(program: str) -> Iterator[None]:
    """Turn the import of a package that is not installed into one line on stderr and exit code 1.

    Args:
        program: what cannot run without it.

    Raises:
        SystemExit: with that line; a container holds only the packages of its own part.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module == _OWN:  # a mistake in Featlink, not in the installation
            raise
        raise SystemExit(
            f"{program}: the module {module!r} is not installed; 'pip install featlink' brings all that Featlink needs"
        ) from None
