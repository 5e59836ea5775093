"""Which split the files of a stage were made from: a line beside them, which later stages compare."""

from __future__ import annotations

from osr.errors import InputError
from pipeline.workspace.files import read_json
from pipeline.workspace.stages import SPLIT, STAGES, Stage

STAMP = "split_digest.txt"


def check_stamps(name: str) -> None:
    """Compare the split on disk with that of everything the stage `name` reads; what has no stamp passes.

    Raises:
        InputError: files of an earlier stage were made from another split.
    """
    for stage in _before(name):
        stamp = None if stage.folder is None else stage.folder / STAMP
        if stamp is None or not stamp.is_file():
            continue
        made_from, digest = stamp.read_text(encoding="ascii").strip(), _digest()
        if made_from != digest:
            raise InputError(
                f"{stage.folder} was made from split {made_from}, but {SPLIT} holds {digest}: "
                "run `dvc repro`."
            )


def write_stamp(name: str) -> None:
    """Put the digest of the split on disk beside the files that the stage `name` has written."""
    folder = STAGES[name].folder
    if folder is not None and folder.is_dir():
        (folder / STAMP).write_text(f"{_digest()}\n", encoding="ascii")


def _before(name: str) -> list[Stage]:
    names = list(STAGES)
    return [STAGES[earlier] for earlier in names[: names.index(name)]]


def _digest() -> str:
    return str(read_json(SPLIT / "split.json")["digest"])
