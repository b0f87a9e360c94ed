"""What crosses the link: the pyramid, its samples and planes, the wire format."""
