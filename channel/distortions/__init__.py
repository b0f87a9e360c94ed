"""Distortions of samples, a file each; :mod:`channel.distortions.base` says what one is."""
