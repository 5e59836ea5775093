"""Rewrites files of a model with other content and a right digest, as somebody who means it would."""

import json
from pathlib import Path

from osr.stored.arrays import read_tensors, write_tensors
from osr.stored.files import read_json, write_json


def kind_of(path: Path) -> str:
    """What a file says it is."""
    if path.suffix == ".json":
        return json.loads(path.read_bytes())["kind"]
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(header["__metadata__"]["osr"])["kind"]


def rewrite(path: Path, change=None, change_arrays=None, **made_from) -> None:
    """Change the content, the arrays, or what a file says it was made from, and write it as osr would."""
    kind = kind_of(path)
    stored, arrays = (read_json(path, kind), None) if path.suffix == ".json" else read_tensors(path, kind)
    content = json.loads(json.dumps(stored.content))
    if change is not None:
        change(content)
    origin = stored.made_from.model_copy(update=made_from)
    if arrays is None:
        write_json(path, kind, content, origin)
    else:
        if change_arrays is not None:
            change_arrays(arrays)
        write_tensors(path, kind, content, origin, arrays)
