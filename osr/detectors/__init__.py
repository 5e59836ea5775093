"""Detectors: stored outputs in, one score per image out; higher = more unknown. See `registry.py`."""
