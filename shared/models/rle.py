"""Runs of a binary mask, column by column, as COCO's run-length codes count them."""

from __future__ import annotations

import numpy as np

from featlink.shared.models.detections import MaskPart, Runs

THRESHOLD = 0.5
"""torchvision's reference evaluation binarises masks here: what is above is the object's."""


def runs_of_part(part: MaskPart) -> Runs:
    """Runs of a mask that fills a part of its image; costs what the part costs, however large the image is.

    Example:
        >>> runs_of_part(MaskPart(np.ones((2, 1), np.float32), 1, 1, (3, 3))).tolist()
        [4, 2, 3]
    """
    import cv2  # not above: data sets are read with this module, and `featlink --help` loads no OpenCV

    height, width = part.size
    inside = part.values > THRESHOLD
    rows = inside.shape[0] + 1  # one more, so that a column ends outside the object
    pixels = np.zeros(1 + inside.shape[1] * rows, np.uint8)
    if inside.size:
        pixels[1:].reshape(-1, rows)[:, :-1] = cv2.transpose(inside.view(np.uint8))
    column, row = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), rows)
    changes = (part.left + column) * height + part.top + row
    # A run that goes on in the next column ends and begins at one place: that is no change.
    same = np.flatnonzero(changes[1:] == changes[:-1])
    changes = np.delete(changes, np.concatenate([same, same + 1]))
    total = height * width
    if changes.size and changes[-1] == total:
        changes = changes[:-1]
    return np.diff(changes, prepend=0, append=total)


def run_lengths(counts: str) -> list[int]:
    """Expand COCO's compressed counts.

    Each character carries 6 bits above "0": a continuation bit and 5 bits of a little-endian two's
    complement number. From the fourth on, a number is the difference to the last but one run.
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        codes = np.array([-1])
    ends = np.flatnonzero((codes & 32) == 0) + 1
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if codes.size == 0 or codes.min() < 0 or codes.max() > 63 or not ends.size or ends[-1] != codes.size:
        raise ValueError("RLE counts are not COCO's compressed text")
    if lengths.max() > 7:
        raise ValueError("RLE counts have a number of more than 35 bits")
    shift = 5 * (np.arange(codes.size) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shift, starts)
    values -= ((codes[ends - 1] & 16) > 0).astype(np.int64) << (5 * lengths)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    runs: list[int] = values.tolist()
    return runs
