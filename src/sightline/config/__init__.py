"""Detectron2's YAML dialect to frozen dataclasses, and back; presets; the zoo's names."""
