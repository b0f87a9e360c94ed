"""``pictures.json``: the content of every picture that was evaluated, so that none changes unnoticed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from featlink.errors import CommandError
from featlink.files import replace

CONTENTS = "pictures.json"


def load_contents(folder: Path) -> dict[int, str]:
    """Digests by image id; empty if the folder has none.

    Raises:
        CommandError: the file cannot be read.
    """
    path = folder / CONTENTS
    if not path.exists():
        return {}
    try:
        return {int(image_id): str(digest) for image_id, digest in json.loads(path.read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        raise CommandError(f"cannot read {path}") from None


def save_contents(folder: Path, digests: Mapping[int, str], evaluated: Collection[int]) -> None:
    """Add digests to those of earlier calls.

    Args:
        folder: the sweep's.
        digests: by image id.
        evaluated: ids of images that have a result already.

    Raises:
        CommandError: one of these has another content than it was evaluated with, or the file cannot be written.
    """
    earlier = load_contents(folder)
    for image_id, digest in digests.items():
        if image_id in evaluated and earlier.get(image_id, digest) != digest:
            raise CommandError(
                f"{folder} holds another sweep: the picture of image {image_id} is another than was evaluated; "
                "choose another --out"
            )
    merged = dict(sorted({**earlier, **digests}.items()))
    if merged != earlier:
        replace(folder / CONTENTS, json.dumps(merged).encode() + b"\n")
