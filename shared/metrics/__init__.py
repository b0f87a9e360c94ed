"""Fidelity metrics: how close distorted feature maps or a distorted image are to the clean ones."""
