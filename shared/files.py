"""Write files atomically, and lock them between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from featlink.shared.errors import StorageError

_log = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
"""What file systems without locks answer, e.g. Lustre and NFS as some clusters mount them."""


def cache() -> Path:
    """Featlink's folder in the user's cache (``XDG_CACHE_HOME``), which need not be there."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "featlink"
    try:
        return Path.home() / ".cache" / "featlink"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"featlink-{os.getuid()}"


def replace(path: Path, content: bytes | memoryview, durable: bool = True) -> None:
    """Write a file, replacing an existing one: a reader finds either the old or the new, even after a kill.

    Args:
        path: the file; its folder is made if missing.
        content: of it.
        durable: return only once it is on disk, so that it also outlasts a power failure.

    Raises:
        StorageError: it cannot be written; the old one is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        swap(path, content, durable)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None


def swap(path: Path, content: bytes | memoryview, durable: bool = True) -> None:
    """As :func:`replace`, in a folder that is there.

    Raises:
        OSError: it cannot be written; the old one is kept.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")  # another process may write the same file
    try:
        with new.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def written_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Have a folder written, unless it is there: whole or not at all. Whoever comes meanwhile waits.

    Args:
        target: the folder.
        write: writes into an empty folder, which becomes the target.

    Raises:
        StorageError: it cannot be written.
    """
    if target.is_dir():
        return target
    with lock(target.parent, wait=True):
        if target.is_dir():  # another process has written it meanwhile
            return target
        try:
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as place:
                new = Path(place) / target.name
                new.mkdir()
                write(new)
                new.rename(target)
        except OSError as error:
            raise StorageError(f"cannot write {target}: {error.strerror or error}") from None
    return target


@contextlib.contextmanager
def lock(folder: Path, wait: bool) -> Iterator[None]:
    """Keep other processes out of a folder, which is made if missing. The lock ends with the process.

    Where the file system has no locks, a warning says so and nothing is kept out.

    Args:
        folder: gets a file ``.lock``.
        wait: for whoever has it.

    Raises:
        StorageError: the folder cannot be written.
        BlockingIOError: another process has it, and ``wait`` is false.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"cannot write {folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise StorageError(f"cannot lock {folder}: {error.strerror}") from None
            _log.warning("%s is on a file system without locks: see that only one process writes there", folder)
        yield
