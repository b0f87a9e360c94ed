"""The split detector: torchvision's network in two halves, its weights, what it answers."""
