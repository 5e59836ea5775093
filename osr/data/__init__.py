"""Data sets by name, and batches of images."""
