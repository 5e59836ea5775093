"""The one writer and reader of model files: JSON, and safetensors whose header holds the same JSON.

A file is `{"kind", "made_from", "content", "digest"}`. The digest is over all the rest, arrays included:
equal things have equal bytes, and a changed byte is seen. Reading never runs code.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from osr.errors import InputError
from osr.settings.base import Section
from osr.settings.sentences import sentences
from osr.stored.digests import digest_of as digest_of
from osr.stored.digests import file_digest as file_digest
from osr.stored.makers import maker
from osr.stored.origin import Kind, Origin, checked_digest

_KEY = "osr"  # of a safetensors header; one alone, whose order cannot differ between processes
_LENGTH = 8  # bytes that say how long a safetensors header is
_MAX_HEADER = 100_000_000  # what safetensors itself allows

Schema = TypeVar("Schema", bound=Section)


class Header(Section):
    """What every file of a model says of itself."""

    kind: str
    made_from: Origin
    digest: str
    content: dict[str, Any]


class Stored(NamedTuple):
    """What a file holds beside arrays.

    Args:
        content: JSON, not checked yet.
        made_from: digests of what it was made from.
        digest: of the file itself.
    """

    content: dict[str, Any]
    made_from: Origin
    digest: str


def write_json(path: Path, kind: Kind, content: Mapping[str, Any], made_from: Origin) -> str:
    """Write JSON, whole or not at all; returns its digest. NaN becomes null, which JSON has instead."""
    header = _header(kind, without_nan(content), made_from, b"", None)
    text = json.dumps(header, indent=2, sort_keys=True, allow_nan=False)
    write_whole(path, f"{text}\n".encode())
    return str(header["digest"])


def read_json(path: Path, kind: Kind) -> Stored:
    """Read what `write_json` wrote.

    Raises:
        InputError: the file is missing, damaged, of another kind, or was changed.
    """
    return _checked(path, kind, read_plain_json(path), b"", None)


def write_header(
    path: Path, kind: Kind, content: Mapping[str, Any], made_from: Origin, safetensors: bytes
) -> str:
    """Put a header into a safetensors file and write it, whole or not at all; returns its digest.

    Args:
        path: of the file.
        kind: what it is.
        content: JSON without NaN.
        made_from: digests of what it was made from.
        safetensors: what `safetensors.torch.save` or that of numpy gives, without metadata.
    """
    entries, start = _entries(safetensors)
    body = memoryview(safetensors)[start:]
    header = _header(kind, dict(content), made_from, body, entries)
    metadata = {"__metadata__": {_KEY: json.dumps(header, sort_keys=True)}}
    text = json.dumps({**metadata, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)  # arrays begin at multiples of eight
    write_whole(path, len(text).to_bytes(_LENGTH, "little") + text + bytes(body))
    return str(header["digest"])


def read_header(path: Path, kind: Kind) -> Stored:
    """What `write_header` wrote beside the arrays; before anybody reads them, all is checked.

    Raises:
        InputError: the file is missing, damaged, of another kind, or was changed.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: {maker().missing}")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            entries, start = _entries(content)
            metadata = entries.pop("__metadata__", {})
            if _KEY not in metadata:
                raise InputError(f"{path} was not written by osr: it does not say what it holds.")
            described = json.loads(metadata[_KEY])
            with memoryview(content) as whole, whole[start:] as body:
                return _checked(path, kind, described, body, entries)
    except InputError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, f"no safetensors file of osr: {error}") from None


def read_plain_json(path: Path) -> dict[str, Any]:
    """Any JSON file that holds an object.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: {maker().missing}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, f"no JSON: {error}") from None
    if not isinstance(content, dict):
        raise damaged(path, f"no JSON object, but {type(content).__name__}")
    return content


def checked(path: Path, schema: type[Schema], content: Any, *, key: str = "") -> Schema:
    """Content as its schema has it.

    Args:
        path: of the file, for the error.
        schema: what every key must be.
        content: JSON.
        key: where in the file the content stands.

    Raises:
        InputError: one sentence per key that is missing, unknown or has no valid value.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        told = "; ".join(sentence.rstrip(".") for sentence in sentences(error, schema))
        raise damaged(path, f"{key}: {told}" if key else told) from None


def damaged(path: Path, why: str) -> InputError:
    """The error of a file that cannot be used."""
    return InputError(
        f"{path} is damaged, or of another version of osr ({' '.join(why.split())[:500]}): {maker().anew}"
    )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file aside and rename it, so that it is there whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as aside:
        aside.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write a file or folder to, which becomes `path` if the block ends well and goes if not.

    Its name is hidden and of this process: nothing of somebody else's stands there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    _remove(aside)
    try:
        yield aside
        aside.replace(path)
    finally:
        _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def without_nan(content: Any) -> Any:
    """JSON content with null for every NaN."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content


def _header(kind: Kind, content: Any, made_from: Origin, body: Any, entries: Any) -> dict[str, Any]:
    said = {"kind": kind, "made_from": made_from.model_dump(exclude_none=True), "content": content}
    return {**said, "digest": digest_of([said, entries], body)}


def _entries(content: Any) -> tuple[dict[str, Any], int]:
    """The header of safetensors content, and where its arrays begin."""
    length = int.from_bytes(content[:_LENGTH], "little")
    if len(content) < _LENGTH or length > min(_MAX_HEADER, len(content) - _LENGTH):
        raise ValueError("its header is longer than the file")
    entries = json.loads(content[_LENGTH : _LENGTH + length])
    if not isinstance(entries, dict):
        raise ValueError("its header is no JSON object")
    return entries, _LENGTH + length


def _checked(path: Path, kind: Kind, described: Any, body: Any, entries: Any) -> Stored:
    if isinstance(described, dict) and not {"kind", "made_from", "content", "digest"} <= described.keys():
        raise InputError(
            f"{path} does not say what it was made from: another version of osr wrote it, or it was not "
            f"written by osr; {maker().anew}"
        )
    header = checked(path, Header, described)
    if header.kind != kind:
        raise InputError(f"{path} holds {header.kind[:40]!r}, but must hold {kind!r}: {maker().anew}")
    said = {key: described[key] for key in ("kind", "made_from", "content")}
    if digest_of([said, entries], body) != header.digest:
        raise InputError(f"{path} was changed after osr wrote it, or was not written whole: {maker().anew}")
    return Stored(header.content, header.made_from, checked_digest(header.digest))
