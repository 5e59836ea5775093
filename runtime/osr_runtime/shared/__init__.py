"""Copies of files of osr, written by runtime/copies.py: change those, not these."""
