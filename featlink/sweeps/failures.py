"""What a sweep could not compute: listed in the manifest, and taken up by the next call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featlink.sweeps.engine import Failure

ENTRY = "failed"
"""Key of the manifest."""


@dataclass
class Failures:
    """Why images lack results, by image and run.

    Attributes:
        names: of the runs, by index.
        files: the pictures, by image id.
    """

    names: Sequence[str]
    files: Mapping[int, Path]
    _why: dict[tuple[int, str], str] = field(default_factory=dict)

    def recall(self, manifest: Mapping[str, Any]) -> None:
        """Take over what earlier calls could not compute."""
        for entry in manifest.get(ENTRY, ()):
            for name in entry["conditions"]:
                self._why[entry["image"], name] = entry["why"]

    def add(self, failure: Failure) -> None:
        """Note a failure, in place of an earlier one of the same image and run."""
        for index in failure.indices:
            self._why[failure.image_id, self.names[index]] = failure.why

    def mended(self, image_id: int, index: int) -> None:
        """Forget what has been computed after all."""
        self._why.pop((image_id, self.names[index]), None)

    def entries(self) -> list[dict[str, Any]]:
        """One for each image and reason, as in the manifest: image, file, conditions, why."""
        grouped: dict[tuple[int, str], list[str]] = {}
        for (image_id, name), why in self._why.items():
            grouped.setdefault((image_id, why), []).append(name)
        return [
            {"image": image_id, "file": self._file(image_id), "conditions": names, "why": why}
            for (image_id, why), names in sorted(grouped.items())
        ]

    def _file(self, image_id: int) -> str:
        return self.files[image_id].name if image_id in self.files else ""


def lines(entries: Sequence[Mapping[str, Any]], runs: int, most: int = 10) -> Iterator[str]:
    """Entries as text.

    Args:
        entries: of :meth:`Failures.entries`.
        runs: how many runs the sweep has.
        most: entries shown.
    """
    for entry in entries[:most]:
        names = entry["conditions"]
        where = (
            "" if len(names) == runs else f" under {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "")
        )
        yield f"image {entry['image']} ({entry['file']}){where}: {entry['why']}"
    if len(entries) > most:
        yield f"and {len(entries) - most} more"
