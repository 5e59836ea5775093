"""Files of a model, changed: by accident, in any byte, or by somebody who stamps what he wrote anew."""

import json
import math
from pathlib import Path

from safetensors.numpy import load_file, save

from osr.stored.files import _entries, _header, write_whole
from osr.stored.origin import Origin

# What stands in a file by mistake: of another type, out of every range, no number, too long, too deep.
ODD = [
    None,
    True,
    "text",
    "",
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    0.5,
    1e308,
    5e-324,
    2**63,
    10**400,
    [],
    [math.nan],
    ["a", "a"],
    [0.9, 0.1],
    {},
    {"a": {"b": 1}},
    "\ud800",
]


def described(path: Path) -> dict:
    """What a file says of itself."""
    content = path.read_bytes()
    if path.suffix != ".safetensors":
        return json.loads(content)
    return json.loads(_entries(content)[0]["__metadata__"]["osr"])


def rewrite(path: Path, change=None, change_arrays=None, **made_from) -> None:
    """Change the content, the arrays, or what a file says it was made from, and stamp it as osr would."""
    said = described(path)
    content = json.loads(json.dumps(said["content"]))
    if change is not None:
        change(content)
    origin = Origin(**said["made_from"]).model_copy(update=made_from)
    if path.suffix != ".safetensors":
        write_whole(path, json.dumps(_header(said["kind"], content, origin, b"", None)).encode())
        return
    arrays = load_file(path)
    if change_arrays is not None:
        change_arrays(arrays)
    plain = save(arrays)
    entries, start = _entries(plain)
    header = _header(said["kind"], content, origin, plain[start:], entries)
    text = json.dumps({"__metadata__": {"osr": json.dumps(header)}, **entries}).encode()
    write_whole(path, len(text).to_bytes(8, "little") + text + plain[start:])


def places(content, place=()):
    """The place of everything in JSON content: keys and positions from its top."""
    yield place
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*place, key))
    elif isinstance(content, list):
        for position in range(min(2, len(content))):
            yield from places(content[position], (*place, position))


def put(content, place, value):
    """Put a value at a place that is not the top."""
    for part in place[:-1]:
        content = content[part]
    content[place[-1]] = value
