"""The edge: image → features → frame."""
