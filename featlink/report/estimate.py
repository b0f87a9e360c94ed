"""An estimate as a table and a few sentences."""

from __future__ import annotations

from collections.abc import Sequence

from featlink.estimate import Estimate
from featlink.report.table import Column, Table
from featlink.sweeps.pace import duration

_KINDS = 6


def estimate_table(found: Estimate, workers: Sequence[int]) -> Table:
    """Time by number of workers."""
    rows = []
    for count in workers:
        likely, low, high = map(duration, found.seconds(count))
        rows.append(["here" if count == 1 else f"{count} workers like this one", likely, f"{low} to {high}"])
    return Table(f"{found.left} pictures", [Column("on", number=False), Column("time"), Column("range")], rows)


def sentences(found: Estimate) -> list[str]:
    """What the table is made of, and the disk."""
    one = found.picture
    if one.sure:
        sure = f"; that of all is from {one.low:.1f} to {one.high:.1f} s ({one.sure:.0%} sure)"
    else:
        sure = "; one picture has no range"
    kinds = [f"{kind} {share:.0%}" for kind, share in list(found.shares.items())[:_KINDS]]
    return [
        f"A picture takes {one.seconds:.1f} s, the median of {found.timed}{sure}. Added are {duration(found.before)} "
        f"for the start and the first picture, and {duration(found.after)} for the evaluation at the end.",
        f"Disk: {found.folder_bytes / 1e9:.2f} GB, {found.picture_bytes / 1e6:.2f} MB for each picture.",
        f"Time by kind of condition: {', '.join(kinds)}{', …' if len(found.shares) > _KINDS else ''}.",
    ]
