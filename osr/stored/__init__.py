"""The files of a model: each says what it holds, what it was made from, and whether it is whole."""
