"""Trained networks at work: outputs of many images, verdicts on new ones."""
