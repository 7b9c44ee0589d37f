"""Boxes in numpy: for files and scores. Their torch twin is in model/boxes.py."""
