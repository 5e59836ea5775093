"""Figures, tables and the page about a run."""
