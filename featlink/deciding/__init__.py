"""Decide from a finished sweep whether to send pixels or features over a link."""
