"""The version of this package, which pyproject.toml takes from here."""

VERSION = "0.2.0"
