"""Traces of a link's rate over time, from a file."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featlink.errors import CommandError
from featlink.shared.evaluation.matching import Floats

_MAHIMAHI_BITS = 8 * 1500
"""What each line of a Mahimahi trace delivers."""
_ROUNDING = 1e-9
"""Mbit, less than a bit: sums that are equal but for rounding are equal."""
_MOST_LINES = 10_000_000


@dataclass(frozen=True, eq=False)
class Trace:
    """A rate that changes from time to time, and begins anew when it ends.

    Attributes:
        seconds: (K + 1,), rising from 0: when each stretch begins, and the end.
        megabits: (K + 1,), never falling from 0: what has been delivered by then.
    """

    seconds: Floats
    megabits: Floats

    @property
    def duration(self) -> float:
        """Seconds until it begins anew."""
        return float(self.seconds[-1])

    @property
    def mean_mbps(self) -> float:
        """10⁶ bits per second on average."""
        return float(self.megabits[-1] / self.seconds[-1])

    def deliver_ms(self, start_s: npt.ArrayLike, bits: npt.ArrayLike) -> Floats:
        """How long bits take from a moment on.

        Args:
            start_s: seconds since the trace began, any number.
            bits: to be sent, of the same shape.

        Example:
            >>> one_then_three = Trace(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 4.0]))
            >>> one_then_three.deliver_ms([0.0, 0.5, 1.5], [1e6, 2e6, 2e6]).tolist()
            [1000.0, 1000.0, 1000.0]
        """
        start = np.mod(np.asarray(start_s, np.float64), self.duration)
        begun = np.interp(start, self.seconds, self.megabits)
        rounds, rest = np.divmod(begun + np.asarray(bits, np.float64) / 1e6, self.megabits[-1])
        # Where nothing is delivered for a while, what counts is when the last bit arrived, not the end of the gap.
        last_bit = self.seconds[np.searchsorted(self.megabits, self.megabits[-1], side="left")]
        whole = np.where(rounds > 0, last_bit - self.duration, start)
        end = np.where(rest > 0, self._until(rest), whole)
        return np.maximum(0.0, 1e3 * (end + rounds * self.duration - start))

    def _until(self, megabits: Floats) -> Floats:
        """When so much has been delivered, within one round."""
        place = np.clip(np.searchsorted(self.megabits, megabits - _ROUNDING, side="left"), 1, len(self.megabits) - 1)
        low, high = self.megabits[place - 1], self.megabits[place]
        share = np.where(high > low, (megabits - low) / np.where(high > low, high - low, 1), 1.0)
        until: Floats = self.seconds[place - 1] + share * (self.seconds[place] - self.seconds[place - 1])
        return until


def read_trace(path: Path) -> Trace:
    """Read a trace.

    Args:
        path: a CSV file whose first line names ``seconds`` and ``mbps`` (the rate from that time on; the last line ends
            the trace), or a Mahimahi file: a line per 1,500 bytes with the millisecond in which they can be delivered.

    Raises:
        CommandError: it is neither, or delivers nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not 1 <= len(lines) <= _MOST_LINES:
        raise CommandError(f"{path} has {len(lines)} lines, not 1 to {_MOST_LINES:,}")
    trace = _mahimahi(path, lines) if lines[0].isdecimal() else _csv(path, lines)
    if not (trace.duration > 0 and trace.megabits[-1] > 0):
        raise CommandError(f"{path} delivers nothing")
    return trace


def _mahimahi(path: Path, lines: list[str]) -> Trace:
    if not all(line.isdecimal() and len(line) <= 12 for line in lines):
        raise CommandError(f"{path} begins like a Mahimahi trace, but not every line is a whole number of milliseconds")
    moments = np.array(lines, np.int64)
    if (np.diff(moments) < 0).any():
        raise CommandError(f"{path} goes back in time")
    when, count = np.unique(moments, return_counts=True)
    when = np.maximum(when, 1)  # a packet of millisecond m has arrived when m ends
    edges = np.unique(np.concatenate([[0], when - 1, when]))
    packets = np.zeros(len(edges))
    np.add.at(packets, np.searchsorted(edges, when), count)
    return Trace(edges / 1e3, packets.cumsum() * _MAHIMAHI_BITS / 1e6)


def _csv(path: Path, lines: list[str]) -> Trace:
    heading, *rows = [[cell.strip().lower() for cell in line] for line in csv.reader(lines)]
    if any(heading.count(name) != 1 for name in ("seconds", "mbps")):
        raise CommandError(f"{path} is neither a CSV file with the columns seconds and mbps nor a Mahimahi trace")
    places = heading.index("seconds"), heading.index("mbps")
    try:
        table = np.array([[float(row[place]) for place in places] for row in rows]).reshape(-1, 2)
    except (ValueError, IndexError):
        raise CommandError(f"{path}: seconds and mbps are not numbers in every line") from None
    seconds, rates = table.T
    if len(seconds) < 2 or seconds[0] != 0 or (np.diff(seconds) <= 0).any():
        raise CommandError(f"{path} needs two lines or more, with seconds rising from 0")
    if not (np.isfinite(table).all() and (rates >= 0).all() and math.isfinite(seconds[-1])):
        raise CommandError(f"{path} has a rate below 0, or a number that is not finite")
    return Trace(seconds, np.concatenate([[0.0], np.cumsum(np.diff(seconds) * rates[:-1])]))
