"""Detections and labels to numbers: scores, and the files that hold them."""
