"""What makes a file anew, for the sentences of errors: not all files are of a run that `osr run` makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Maker(NamedTuple):
    """What to do about a file.

    Args:
        missing: where there is none.
        anew: where it cannot be used.
        apart: where it does not go with the others.
        weights: where another version wrote the weights.
    """

    missing: str
    anew: str
    apart: str
    weights: str


RUN = Maker(
    missing="`osr run` makes it.",
    anew="`osr run` makes it anew.",
    apart="`osr run` makes them anew.",
    weights="`osr run --force train` makes it anew.",
)
_EXPORT = "copy the exported folder anew, or make it with `osr export`."
EXPORTED = Maker(missing="`osr export` makes such a folder.", anew=_EXPORT, apart=_EXPORT, weights=_EXPORT)
_STATE = "take an earlier copy, or begin another file with all verdicts."
STATE = Maker(missing=_STATE, anew=_STATE, apart="name the folder that it was begun with.", weights=_STATE)

_present: ContextVar[Maker] = ContextVar("maker", default=RUN)


def maker() -> Maker:
    """Of the files that are read at present."""
    return _present.get()


@contextmanager
def made_by(other: Maker) -> Iterator[None]:
    """Files that are read in the block are made by something else."""
    token = _present.set(other)
    try:
        yield
    finally:
        _present.reset(token)
