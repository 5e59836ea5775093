"""Which classes are known and which images train, validate and test."""
