"""The cloud service: frame → detections, and the runs that collect and score them."""
