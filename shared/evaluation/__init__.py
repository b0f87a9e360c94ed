"""Evaluation of predictions against ground truth: COCO data, metrics, confidence intervals."""
