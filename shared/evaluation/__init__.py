"""What was found, against what is there: ground truths, metrics, intervals."""
