"""Detections for people: boxes drawn on pictures."""
