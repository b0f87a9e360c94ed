"""Reductions, which send fewer planes than the levels have; see :mod:`featlink.channel.reduction.base`."""
