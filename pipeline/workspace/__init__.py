"""The files of a run on disk: where they lie, which split they belong to, how they come back."""
