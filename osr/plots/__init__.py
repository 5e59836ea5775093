"""Figures as functions of (Axes, arrays); higher score = more unknown. Nothing here knows paths or pyplot."""
