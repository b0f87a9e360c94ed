"""Reductions, a file each: fewer planes cross the link than the pyramid has. :mod:`channel.reduction.base` says what one is."""
