"""Command init: from a folder of photos to a project that runs."""
