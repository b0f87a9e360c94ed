"""Files that are never half written, even if the process is killed."""

from __future__ import annotations

import os
from pathlib import Path

from featlink.errors import CommandError


def replace(path: Path, content: bytes | memoryview) -> None:
    """Write a file, replacing an existing one: a reader finds either the old or the new.

    Raises:
        CommandError: it cannot be written; the old one is kept.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
