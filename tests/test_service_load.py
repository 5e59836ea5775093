"""A minute of 200 clients at once, many of whom mean no good: the server answers, lives, keeps its memory."""

import asyncio
import base64
import io
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import psutil
import pytest
from pages import write_section
from PIL import Image
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, run  # noqa: F401 (fixtures)

ROOT = Path(__file__).parents[1]
CLIENTS, SECONDS, MAX_GROWTH_MIB = 200, 60, 900
JSON, PNG = "application/json", "image/png"
SILENT = "no answer"

pytestmark = pytest.mark.slow


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


SMALL = png(np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8))
PHOTO = png(np.random.default_rng(1).integers(0, 256, (1000, 1000), np.uint8))
TEXT = base64.b64encode(SMALL).decode()
# What is sent -> its body, its type, and the statuses that are right; so is 503 while the server is busy.
ASKED = {
    "a small PNG": (SMALL, PNG, {200}),
    "a photo of a megapixel": (PHOTO, PNG, {200}),
    "JSON with 64 images": (json.dumps({"images": [TEXT] * 64}).encode(), JSON, {200}),
    "JSON with 65 images": (json.dumps({"images": [TEXT] * 65}).encode(), JSON, {422}),
    "JSON that ends in the middle": (b'{"images": ["', JSON, {422}),
    "JSON of 100,000 brackets": (b"[" * 100_000, JSON, {422}),
    "pixels instead of a file": (b'{"images": [[[0.5, 300]]]}', JSON, {422}),
    "a PNG cut in half": (SMALL[: len(SMALL) // 2], PNG, {422}),
    "a PNG of 60,000 x 60,000 pixels": (bomb(), PNG, {422}),
    "text": (b"hello", "text/plain", {415}),
    "a body of 100 MB": (bytes(100_000_000), PNG, {413}),
    "the same in chunks, its size not said": (bytes(100_000_000), PNG, {413}),
    "half a body, then silence": (SMALL[:50], PNG, {408}),
}
SLOW, CHUNKED = "half a body, then silence", "the same in chunks, its size not said"


async def ask(port: int, what: str) -> int | str:
    """The status of one request, or that the server closed the connection without an answer."""
    body, kind, _ = ASKED[what]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    promised = len(body) * (2 if what == SLOW else 1)
    size = "Transfer-Encoding: chunked" if what == CHUNKED else f"Content-Length: {promised}"
    head = ("POST /predict HTTP/1.1", "Host: x", f"Content-Type: {kind}", "Connection: close", size, "", "")
    writer.write("\r\n".join(head).encode())
    try:
        for start in range(0, len(body), 1 << 16):
            part = body[start : start + (1 << 16)]
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if what == CHUNKED else part)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if what == CHUNKED else b"")
    except ConnectionError:
        pass  # it has said enough; the answer may be there all the same
    try:
        line = await reader.readline()
        return int(line.split()[1]) if line else SILENT
    except ConnectionError:
        return SILENT
    finally:
        writer.close()


async def crowd(port: int, memory: list[int], server: psutil.Process) -> dict[str, Counter]:
    """What all clients were answered."""
    seen, ends = defaultdict(Counter), time.monotonic() + SECONDS
    draws = random.Random(0)

    async def client() -> None:
        while time.monotonic() < ends:
            what = draws.choice(list(ASKED))
            seen[what][await ask(port, what)] += 1

    async def watch() -> None:
        while time.monotonic() < ends:
            memory.append(server.memory_info().rss)
            await asyncio.sleep(0.1)

    await asyncio.gather(watch(), *(client() for _ in range(CLIENTS)))
    return seen


def test_a_minute_of_two_hundred_clients(folder, tmp_path_factory):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--port", str(port), "--seconds", "10", "--quiet")
    command = ("pipeline.cli", "serve", str(Path(folder).resolve()), *options)
    log = tmp_path_factory.mktemp("log") / "log"
    with log.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=file,
            stderr=file,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    try:
        server, memory = psutil.Process(started.pid), []
        wait_until_it_listens(port, started)
        alone = {what: asyncio.run(asyncio.wait_for(ask(port, what), 60)) for what in ASKED}
        before = server.memory_info().rss
        seen = asyncio.run(crowd(port, memory, server))
        assert asyncio.run(asyncio.wait_for(ask(port, "a small PNG"), 60)) == 200
        assert started.poll() is None
    finally:
        started.terminate()
        started.wait(60)
    assert all(status in ASKED[what][2] for what, status in alone.items()), alone
    growth = (max(memory) - before) >> 20
    for what, found in seen.items():
        late = {SILENT} if len(ASKED[what][0]) > 1 << 24 else set()
        assert set(found) <= ASKED[what][2] | {503} | late, (what, found)
    assert growth < MAX_GROWTH_MIB
    said = log.read_text()
    assert "Traceback" not in said, said
    counts = {what: sorted(found.items(), key=str) for what, found in seen.items()}
    rows = [
        f"| {what} | {alone[what]} | {', '.join(f'{status}: {count:,}' for status, count in counts[what])} |"
        for what in ASKED
    ]
    introduction = (
        f"`pytest -m slow -n 0 tests/test_service_load.py`: {CLIENTS} clients send these for {SECONDS} s,\n"
        "each the next as soon as it has an answer, to a server with ten seconds of patience:\n"
        f"{sum(map(Counter.total, seen.values())):,} requests. Its memory grew by {growth} MiB at most.\n"
        "Afterwards it judged as before, and its log held no traceback. 503 says that the server is busy;\n"
        "who still sends after ten seconds may find the connection closed before the answer is read.\n\n"
        "| what is sent | alone | by all at once: statuses and how often |\n|---|---|---|\n"
    )
    write_section("reliability.md", "Two hundred clients at once", introduction + "\n".join(rows))


def wait_until_it_listens(port: int, started: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
