"""Distortions of samples, one file each; their base class is in :mod:`featlink.channel.distortions.base`."""
