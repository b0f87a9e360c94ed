"""Results as the database's rows have them, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
from sqlalchemy import Row

from featlink.shared.store.records import Result

_PIECE = 1 << 18


def result_row(run_id: str, result: Result) -> dict[str, Any]:
    """A run's result, by column.

    Raises:
        ValueError: a number is not finite.
    """
    return {
        "run_id": run_id,
        "image_id": result.image_id,
        "detections": zlib.compress(_to_json(result.detections).encode()),
        "bits": result.bits,
        "link_bits": result.link_bits,
        "fidelity": _to_json(result.fidelity),
        "timings": _to_json(result.timings),
        "created": result.created,
    }


def result_of(row: Row[Any]) -> Result:
    """What :func:`result_row` was made from."""
    return Result(
        image_id=row.image_id,
        detections=msgspec.json.decode(zlib.decompress(row.detections)),
        bits=row.bits,
        fidelity=json.loads(row.fidelity),
        timings=json.loads(row.timings),
        link_bits=row.link_bits,
        created=row.created,
    )


def decompressed(blob: bytes) -> Iterator[bytes]:
    """A compressed column, in pieces."""
    stream = zlib.decompressobj()
    while not stream.eof:
        yield stream.decompress(blob, _PIECE)
        blob = stream.unconsumed_tail


def _to_json(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
