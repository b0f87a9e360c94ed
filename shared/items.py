"""The unit of work: one frame of a sequence."""

from __future__ import annotations

from typing import NamedTuple


class ItemId(NamedTuple):
    """What is inferred, stored and evaluated as one: a frame of a sequence. A still is a sequence of one frame.

    Attributes:
        sequence: the data set's id of the sequence; of a still, its image id.
        frame: its place in the sequence, from 0.

    Example:
        >>> ItemId(139), ItemId("street", 24)
        (ItemId(sequence=139, frame=0), ItemId(sequence='street', frame=24))
    """

    sequence: int | str
    frame: int = 0
