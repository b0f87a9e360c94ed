"""What a sweep's manifest says of it, in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featlink.dataset import Truth
from featlink.report.sweep import Sweep
from featlink.report.table import MISSING, Column, Table

_CLEAN = (
    "No annotations were used: what clean features detect counts as the truth, so AP and retention say how much of "
    "that answer survives, not how right it is. AP weighs IoU thresholds by 1 − IoU."
)


@dataclass(frozen=True)
class About:
    """The headline of a report.

    Attributes:
        model: architecture.
        weights: ``coco``, ``starter`` or the file's path, as given to the sweep.
        identity: first digits of the weights' SHA-256.
        profile: numerics, ``fast``, ``exact`` or ``bf16``.
        device: what the network ran on, ``cpu`` or ``cuda``.
        min_size: of the network input, where the sweep was given one.
        max_size: the same.
        dataset: the data set's name.
        folder: where the data set was, if the manifest says.
        images: how many were evaluated, of how many.
        date: when the sweep was finished; empty while it is not.
        command: that made it, as it would be typed; empty where the manifest does not say.
        truth: what counted as right.
    """

    model: str
    weights: str
    identity: str
    profile: str
    device: str
    min_size: int | None
    max_size: int | None
    dataset: str
    folder: Path | None
    images: str
    date: str
    command: str
    truth: Truth

    @property
    def statement(self) -> str:
        """Which model's numbers these are, and what counted as right, in some sentences."""
        return self._whose if self.truth == "annotations" else f"{self._whose} {_CLEAN}"

    @property
    def _whose(self) -> str:
        if self.weights == "coco":
            return "Numbers of torchvision's official COCO weights."
        name = Path(self.weights).name or "unnamed weights"
        whose = "starter-model numbers" if "starter" in name.lower() else f"numbers of the weights {name}"
        return (
            f"These are {whose}, not those of the official COCO weights: compare retention and order with the paper, "
            "not AP."
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """The headline as (what, value)."""
        name = Path(self.weights).name
        weights = f"{name} ({self.identity[:16]})" if self.identity else name
        on = "" if self.device in ("", "cpu") else f" on {self.device}"
        model = f"{self.model}, {self.profile}{on}" if self.profile else self.model
        date = self.date[:16].replace("T", " ") + " UTC" if self.date else "not finished"
        facts = [("Model", model), ("Weights", weights), ("Data set", self.dataset), ("Images", self.images)]
        return [(what, value) for what, value in [*facts, ("Date", date), ("Command", self.command)] if value]


def about(sweep: Sweep) -> About:
    """Read the headline from a manifest; what is not there is empty."""
    flat = {key: value for key, value in _flat(sweep.manifest) if value is not None}
    done, total = max((row.images for row in sweep.rows), default=0), flat.get("dataset.images")
    model, _, arithmetic = str(flat.get("model.name", "")).partition("+")  # services tell theirs
    return About(
        model=model,
        weights=str(flat.get("model.weights", "")),
        identity=str(flat.get("model.identity", "")),
        profile=arithmetic or str(flat.get("model.profile", "")),
        device=str(flat.get("model.device", "")),
        min_size=flat.get("model.min_size"),
        max_size=flat.get("model.max_size"),
        dataset=str(flat.get("dataset.name", "")),
        folder=Path(flat["dataset.folder"]) if "dataset.folder" in flat else None,
        images=f"{done:,}" if total in (None, done) else f"{done:,} of {total:,}",
        date=str(flat.get("finished", "")),
        truth=sweep.truth,
        command=shlex.join(["featlink", *sweep.manifest["command"][1:]]) if "command" in sweep.manifest else "",
    )


def manifest_table(sweep: Sweep) -> Table:
    """The manifest as a table, one line per value, without the conditions."""
    columns = [Column("what", number=False), Column("value", number=False)]
    manifest = {key: value for key, value in sweep.manifest.items() if key != "conditions"}
    lines = [[key, MISSING if value is None else str(value)] for key, value in _flat(manifest)]
    return Table("What was run, with what", columns, lines)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Values by dotted key."""
    lines: list[tuple[str, Any]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            lines += _flat(item, f"{prefix}{key}.")
        else:
            lines.append((prefix + key, " ".join(map(str, item)) if isinstance(item, list) else item))
    return lines
