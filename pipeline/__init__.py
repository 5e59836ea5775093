"""The six DVC stages and what they share: thin entry points over `osr`."""
