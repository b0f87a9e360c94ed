"""Unpack a ZIP archive: never outside its folder, and no file half written."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from featlink.errors import CommandError


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
