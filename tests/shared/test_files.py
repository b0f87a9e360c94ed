"""Files are whole or not there, and locks keep processes apart where the file system has them."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

import pytest

from featlink.shared.errors import StorageError
from featlink.shared.files import lock, replace


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_a_failure_keeps_the_old_one(tmp_path: Path, durable: bool) -> None:
    target = tmp_path / "new" / "a.bin"
    replace(target, b"old", durable)
    replace(target, memoryview(b"new"), durable)
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(StorageError, match="cannot write"):
        replace(target / "below a file", b"")
    assert target.read_bytes() == b"new"


def test_a_lock_keeps_others_out_until_it_is_left(tmp_path: Path) -> None:
    with lock(tmp_path / "a", wait=False), pytest.raises(BlockingIOError), lock(tmp_path / "a", wait=False):
        pass
    with lock(tmp_path / "a", wait=True):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_it_goes_on_and_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), lock(tmp_path, wait=False):
        pass
    assert f"{tmp_path} is on a file system without locks" in caplog.text


def test_another_fault_of_the_lock_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match="cannot lock"), lock(tmp_path, wait=False):
        pass
