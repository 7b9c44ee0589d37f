"""Detectors as the papers read, with Detectron2's names in the state dict and Detectron2's numbers out."""
