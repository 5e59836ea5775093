"""Where `osr predict` writes: checked before the work, and whole or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from osr.errors import InputError


@contextmanager
def writing(path: Path | None) -> Iterator[Callable[[str], object]]:
    """Give a function that takes the text, once; what stood in the file stays until the new text is whole.

    Characters that no encoding holds, as in names of files that are no UTF-8, stand there with backslashes.

    Args:
        path: of the file; None means standard output.

    Raises:
        InputError: nobody can write there, at once or later.
    """
    if path is None:
        yield lambda text: sys.stdout.write(_printable(text))
        return
    aside, texts = path.with_name(f"{path.name}.part"), list[str]()
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"--output {path} is a folder or a device, but must be a file.")
        aside.write_bytes(b"")
    except OSError as error:
        raise InputError(f"--output {path} cannot be written: {error.strerror}.") from error
    try:
        yield texts.append
        try:
            aside.write_text("".join(texts), encoding="utf-8", errors="backslashreplace")
            aside.replace(path)
        except OSError as error:
            raise InputError(f"--output {path} could not be written: {error.strerror}.") from error
    finally:
        aside.unlink(missing_ok=True)


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
