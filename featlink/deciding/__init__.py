"""Which to send over a link, pixels or features, from a finished sweep."""
