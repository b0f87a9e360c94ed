"""Codecs, a file each: VVC (VVenC), HEVC (x265), AV1 (SVT-AV1), JPEG. :mod:`channel.codecs.base` says what one is."""
