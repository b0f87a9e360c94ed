"""Split models: torchvision's detectors in two halves, their weights and their detections."""
