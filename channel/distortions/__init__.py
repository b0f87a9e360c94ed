"""Distortions of samples, a file each; :mod:`featlink.channel.distortions.base` says what one is."""
