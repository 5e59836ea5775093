"""The exported folder as far as a graph needs it: whole, unchanged, and nothing in it is run as code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr_runtime.shared.digests import digest_of, file_digest
from osr_runtime.shared.errors import InputError

MANIFEST = "classifier.json"
GRAPH = "classifier.onnx"
SCORES = "validation_scores.safetensors"
_LENGTH = 8  # bytes that say how long a safetensors header is
_TYPES = {"F64": "<f8", "I64": "<i8"}


class Contents(NamedTuple):
    """What is read of a folder.

    Args:
        graph: the file of the graph.
        scores: detector -> (n,) float64 scores of validation knowns.
        groups: (n,) int64 group of each of these; None where each stands for itself.
        predictions: (n,) int64 their predicted classes; there where thresholds are per class.
    """

    graph: Path
    scores: dict[str, NDArray[np.float64]]
    groups: NDArray[np.int64] | None
    predictions: NDArray[np.int64] | None


def read_folder(folder: Path) -> Contents:
    """Read graph and scores after every file that is there was compared with its digest.

    classifier.json, classifier.onnx and validation_scores.safetensors are enough; the files for PyTorch may
    be left out.

    Raises:
        InputError: a file that is needed is missing, or one was changed.
    """
    digests = _digests(folder / MANIFEST)
    if GRAPH not in digests:
        raise InputError(f"{folder} has no {GRAPH}: make the folder with `osr export --onnx`.")
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            if name in (GRAPH, SCORES):
                raise InputError(f"{file} is missing: the folder is not whole; export or copy it anew.")
            continue
        if file_digest(file) != digest:
            raise InputError(f"{file} was changed after the export: export or copy the folder anew.")
    arrays = _arrays(folder / SCORES)
    groups, predictions = arrays.pop("group", None), arrays.pop("prediction", None)
    return Contents(folder / GRAPH, arrays, groups, predictions)


def _digests(path: Path) -> dict[str, str]:
    """The digest of each file of the folder, by its name, from a manifest that is as it was written."""
    if not path.is_file():
        raise InputError(f"{path} is missing: a folder that `osr export --onnx` made is needed.")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        said = {key: header[key] for key in ("kind", "made_from", "content")}
        files = dict(said["content"]["files"])
        if digest_of([said, None], b"") == header["digest"] and SCORES in files:
            return files
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path} is no description of a classifier: export the folder anew.") from error
    raise InputError(f"{path} was changed after the export: export or copy the folder anew.")


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The vectors of a safetensors file whose digest is right."""
    content = path.read_bytes()
    try:
        start = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
        entries = json.loads(content[_LENGTH:start])
        entries.pop("__metadata__", None)
        body = memoryview(content)[start:]
        return {
            name: np.frombuffer(body[slice(*entry["data_offsets"])], _TYPES[entry["dtype"]])
            for name, entry in entries.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} holds no scores: export the folder anew.") from error
