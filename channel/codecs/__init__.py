"""Codecs, a file each: VVC (VVenC), HEVC (x265), AV1 (SVT-AV1), JPEG, entropy coding of samples.

The base classes are in :mod:`featlink.channel.codecs.base`.
"""
