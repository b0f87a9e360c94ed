"""Codecs, a file each: VVC (VVenC), HEVC (x265), AV1 (SVT-AV1), JPEG, entropy coding of samples.

:mod:`featlink.channel.codecs.base` says what one is.
"""
