"""What a request to `osr serve` holds: read within limits of bytes and seconds, and parted into images."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from osr.inference.streams import Source


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Args:
        body_bytes: of one request.
        total_bytes: of all requests that are being read or judged.
        images: in one request.
        pixels: in one image.
        seconds: to send a body, and to wait for the verdict.
    """

    body_bytes: int = 16 << 20
    total_bytes: int = 256 << 20
    images: int = 64
    pixels: int = 50_000_000
    seconds: float = 30.0


class RefusedError(Exception):
    """A request that is not judged: the status of HTTP, and one sentence for the client."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Budget:
    """The bytes of bodies that may stand in memory at once."""

    def __init__(self, total: int) -> None:
        self.left = total

    @contextmanager
    def held(self) -> Iterator[_Held]:
        """What one request takes of it, until it is answered."""
        held = _Held(self)
        try:
            yield held
        finally:
            self.left += held.count


class _Held:
    def __init__(self, budget: Budget) -> None:
        self._budget, self.count = budget, 0

    def take(self, count: int) -> None:
        """Raises `RefusedError` where the server has no room."""
        if count > self._budget.left:
            raise RefusedError(503, "The server is busy: send this again later.")
        self._budget.left -= count
        self.count += count


async def read_sources(request: Request, limits: Limits, held: _Held) -> list[Source]:
    """The images of a request, not decoded yet.

    The body is the file of one image (`image/...`), `multipart/form-data` with a file each, or JSON
    `{"images": [base64, ...]}`.

    Raises:
        RefusedError: 408, 413, 415, 422 or 503.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    is_image = kind.startswith("image/") or kind == "application/octet-stream"
    if not is_image and kind not in ("application/json", "multipart/form-data"):
        raise RefusedError(
            415, "Content-Type must be an image's, application/octet-stream, multipart/form-data or JSON's."
        )
    body = await _body(request, limits, held)
    if is_image:
        sources = [Source("image 0", body)]
    elif kind == "application/json":
        sources = _of_json(body)
    else:
        sources = await _of_form(request, body, limits)
    if not 1 <= len(sources) <= limits.images:
        raise RefusedError(422, f"A request must hold 1 to {limits.images} images, not {len(sources)}.")
    return sources


async def _body(request: Request, limits: Limits, held: _Held) -> bytes:
    """All of it; the rest of one that is too large is received and dropped.

    Closed with bytes unread, the connection would be reset before the client has read why.
    """
    said = request.headers.get("content-length", "")
    is_too_large = said.isdecimal() and int(said) > limits.body_bytes
    parts = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                is_too_large = is_too_large or len(parts) + len(part) > limits.body_bytes
                if not is_too_large:
                    held.take(len(part))
                    parts += part
    except TimeoutError:
        if not is_too_large:
            raise RefusedError(408, f"The body did not arrive within {limits.seconds:g} seconds.") from None
    if is_too_large:
        raise RefusedError(413, f"A body may have {limits.body_bytes:,} bytes at most.")
    return bytes(parts)


def _of_json(body: bytes) -> list[Source]:
    told = RefusedError(
        422, 'JSON must be {"images": [...]}, each image the base64 of a PNG, JPEG or other file.'
    )
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise told from None
    if (
        not isinstance(content, dict)
        or content.keys() != {"images"}
        or not isinstance(content["images"], list)
    ):
        raise told
    sources = []
    for number, text in enumerate(content["images"]):
        try:
            sources.append(Source(f"image {number}", base64.b64decode(text, validate=True)))
        except (binascii.Error, TypeError, ValueError):
            raise RefusedError(422, f"image {number} is no base64.") from None
    return sources


async def _of_form(request: Request, body: bytes, limits: Limits) -> list[Source]:
    async def stream() -> AsyncIterator[bytes]:
        yield body

    parser = MultiPartParser(request.headers, stream(), max_files=limits.images, max_fields=0)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", "it is damaged")
        raise RefusedError(422, f"The form cannot be read: {reason}") from None
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    sources = [Source(f"image {number}", await file.read()) for number, file in enumerate(files)]
    await form.close()
    return sources
