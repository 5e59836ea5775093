"""Training losses, one file per idea."""
