"""The edge: image → p2..p6 → frame."""
