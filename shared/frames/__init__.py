"""What crosses the link: samples and planes of feature maps or images, and the wire format."""
