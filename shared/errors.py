"""The errors a caller can cause. Services answer them with 4xx, the CLI with one line and exit code 1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def type_name(value: object) -> str:
    """What a message calls the type of something that another's code gave.

    Example:
        >>> import decimal
        >>> type_name({}), type_name(decimal.Decimal(1))
        ('dict', 'decimal.Decimal')
    """
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


class FeatlinkError(Exception):
    """Base of every error that the caller can fix.

    ``status`` is the HTTP status a service answers it with; ``title`` is the short,
    constant name of the problem (RFC 9457).
    """

    status: int = 400
    title: str = "Bad request"


class FrameError(FeatlinkError):
    """A frame that breaks the wire format or one of its limits."""

    title = "Invalid frame"


class ConditionError(FeatlinkError):
    """A condition that cannot be parsed or names an unknown step or parameter."""

    title = "Invalid condition"


class InvalidLinkError(FeatlinkError):
    """A simulated link that cannot be parsed or is out of its bounds."""

    title = "Invalid link"


class ImageError(FeatlinkError):
    """Bytes that are not an image this service can decode within its limits."""

    status = 415
    title = "Unreadable image"


class ModelError(FeatlinkError):
    """Weights that cannot be found, read, or fitted to the chosen model."""

    status = 409
    title = "Model mismatch"


class NotFoundError(FeatlinkError):
    """A run, data set or image that this service does not know."""

    status = 404
    title = "Not found"


class ConflictError(FeatlinkError):
    """A request that contradicts what is already stored."""

    status = 409
    title = "Conflict"


class DatasetError(FeatlinkError):
    """A ground truth that is not in COCO's instances format."""

    status = 422
    title = "Invalid data set"


class StorageError(FeatlinkError):
    """A database or folder that cannot be opened or written."""

    status = 507
    title = "Insufficient storage"


class StepError(FeatlinkError):
    """A step that does not do what its kind promises."""

    status = 500
    title = "Step failure"


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
        if module == "featlink":  # a mistake in Featlink, not in the installation
            raise
        raise SystemExit(
            f"{program}: the module {module!r} is not installed; 'pip install featlink' brings all that Featlink needs"
        ) from None
