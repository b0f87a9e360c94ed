"""Download one file: resume where it was cut, check it, and move it into place once it is whole; unpack archives."""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import httpx

from featlink.errors import CommandError

Progress = Callable[[int, int | None], None]
"""Called with the bytes there are and the bytes there will be (None: the server does not say)."""

_ATTEMPTS = 4


@dataclass(frozen=True)
class Checksum:
    """What a file must hash to.

    Attributes:
        algorithm: of :mod:`hashlib`.
        prefix: the hexadecimal digest, or its beginning.
    """

    algorithm: str
    prefix: str


@dataclass(frozen=True)
class Source:
    """A file on the network.

    Attributes:
        url: http or https.
        checksum: of its content; None where none is published.
    """

    url: str
    checksum: Checksum | None


def download(source: Source, target: Path, progress: Progress, timeout_s: float = 30) -> None:
    """Fetch a file into ``target``, by way of ``target.part``, which a later call continues.

    Args:
        source: what to fetch.
        target: where it goes; nothing is done if it exists.
        progress: is told of every chunk.
        timeout_s: for the connection and for each read.

    Raises:
        CommandError: no network, an answer other than the file, a cut connection, a wrong checksum, a full disk.
    """
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_all(source.url, part, progress, timeout_s)
        if source.checksum is not None:
            _verify(part, source.checksum)
        os.replace(part, target)
    except OSError as error:
        raise CommandError(f"cannot write {part}: {error.strerror}") from None


def _fetch_all(url: str, part: Path, progress: Progress, timeout_s: float) -> None:
    """Try again where a connection broke, as long as each try gets further."""
    host = urlparse(url).netloc
    left = _ATTEMPTS
    while True:
        before = _size(part)
        try:
            _fetch(url, part, progress, timeout_s)
            return
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise CommandError(f"cannot reach {host}: is there a network? ({error or type(error).__name__})") from None
        except httpx.HTTPError as error:
            left -= 1
            if left == 0 or _size(part) <= before:
                broken = f"the connection to {host} broke after {_size(part):,} bytes ({error or type(error).__name__})"
                raise CommandError(f"{broken}; the same command goes on from there") from None


def _fetch(url: str, part: Path, progress: Progress, timeout_s: float) -> None:
    have = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _client(timeout_s) as client, client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to send: the checksum decides
        if response.is_error:
            raise CommandError(f"{url}: {response.status_code} {response.reason_phrase}")
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as file:
            progress(have, total)
            for chunk in response.iter_raw():
                file.write(chunk)
                have += len(chunk)
                progress(have, total)


def _client(timeout_s: float) -> httpx.Client:
    """A client that goes by the proxies of the environment."""
    try:
        return httpx.Client(timeout=timeout_s, follow_redirects=True)
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CommandError(f"HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY cannot be used: {reason}") from None


def _verify(part: Path, checksum: Checksum) -> None:
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, checksum.algorithm).hexdigest()
    if not digest.startswith(checksum.prefix):
        part.unlink()
        raise CommandError(
            f"{part.name} is damaged: its {checksum.algorithm} is {digest}, not {checksum.prefix}…; it was deleted"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool], progress: Callable[[int, int], None]) -> int:
    """Unpack files of an archive; those that are there with the right size stay.

    Args:
        archive: ZIP file.
        folder: where its paths begin.
        wanted: which names to unpack.
        progress: is told how many files are done, of how many.

    Returns:
        How many files the archive has under wanted names.

    Raises:
        CommandError: not an archive, damaged, a name that leads out of the folder, or a disk that cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir() and wanted(member.filename)]
            targets = [folder / _inside(member.filename, archive) for member in members]
            for done, (member, target) in enumerate(zip(members, targets, strict=True), start=1):
                if not (target.is_file() and target.stat().st_size == member.file_size):
                    _extract(file, member, target)
                progress(done, len(members))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CommandError(f"{archive} is damaged: {error}") from None
    except OSError as error:
        raise CommandError(f"cannot unpack {archive.name} into {folder}: {error.strerror}") from None
    return len(members)


def _inside(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise CommandError(f"{archive} has a file {name!r}, which leads out of its folder; nothing was unpacked")
    return path


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with file.open(member) as source, part.open("wb") as out:
        shutil.copyfileobj(source, out)  # zipfile checks the CRC at the end
    os.replace(part, target)
