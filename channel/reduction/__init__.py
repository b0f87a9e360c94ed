"""Reductions: fewer planes than a pyramid cross the link. :mod:`featlink.channel.reduction.base` says what one is."""
