"""Reductions: fewer planes than a pyramid cross the link. :mod:`channel.reduction.base` says what one is."""
