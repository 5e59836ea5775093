"""The images of the split on disk: as one array, or as a list of files that stay where they are."""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from osr.data.images import ImageFiles, ImageSet, OddImage
from osr.errors import InputError
from osr.outputs import IntArray
from osr.splits.split import Split
from osr.stored.files import damaged
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import IMAGE_FILES, IMAGES, ODD_IMAGES, SPLIT
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.data.batches import Images
    from osr.frame import Frame

# What numpy's and JSON's readers raise of files that hold something else.
_DAMAGES = (ValueError, TypeError, KeyError, OSError, EOFError, SyntaxError, RecursionError, TokenError)
logger = logging.getLogger("osr.images")

CHUNK = 4096  # images that are written at once
LABELS = "labels.npy"

Pixels = NDArray[np.uint8] | ImageFiles


def save_images(sets: Sequence[ImageSet], folder: Path, *, root: str, max_pixels: int) -> None:
    """Write the images of all sets, one after the other, without holding them in memory.

    Args:
        sets: the main data set and its unknown sources, all arrays of one shape or all files.
        folder: to write to.
        root: the setting `dataset.root`, which the names of files are relative to.
        max_pixels: of one image that stays a file.
    """
    if isinstance(sets[0].images, ImageFiles):
        head = {"root": root, "channels": sets[0].images.channels, "max_pixels": max_pixels}
        with (folder / IMAGE_FILES.name).open("w", encoding="utf-8") as file:
            file.write(json.dumps(head) + "\n")
            for data in sets:
                names = data.images.names if isinstance(data.images, ImageFiles) else ()
                file.writelines(json.dumps(str(name)) + "\n" for name in names)
        return
    arrays = [data.images for data in sets if not isinstance(data.images, ImageFiles)]
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (folder / IMAGES.name).open("wb") as raw:
        np.lib.format.write_array_header_1_0(raw, header)
        for array in arrays:
            for start in range(0, len(array), CHUNK):
                raw.write(np.ascontiguousarray(array[start : start + CHUNK]).tobytes())


def odd_images(sets: Sequence[ImageSet]) -> dict[str, dict[str, int]]:
    """Write the table of odd files, and count them for the metrics; neither where there are none.

    Names that are no UTF-8 stand there with backslashes for their bytes.
    """
    odd = [image for data in sets for image in data.odd]
    passed = sum((Counter(dict(data.passed_over)) for data in sets), Counter[str]())
    if not odd and not passed:
        return {}
    write_odd(new(ODD_IMAGES), odd, passed)
    skipped = sum(image.is_bad for image in odd)
    if skipped:
        logger.warning("files that cannot be read as images, left out: %d, see %s", skipped, ODD_IMAGES)
    counts = {"skipped": skipped, "converted": len(odd) - skipped}
    return {"odd_images": {**counts, "passed_over": passed.total()} if passed else counts}


def write_odd(path: Path, odd: Sequence[OddImage], passed: Mapping[str, int] | None = None) -> None:
    """One line per file: its name in the data set's root, whether it is unreadable or converted, and why.

    Then one line for each ending of names that were passed over.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("file", "kind", "why"))
        writer.writerows(
            (image.name, "unreadable" if image.is_bad else "converted", image.problem) for image in odd
        )
        writer.writerows(
            (ending, "passed over", f"{count} files") for ending, count in (passed or {}).items()
        )


def open_images(folder: Path = SPLIT) -> Pixels:
    """The images of the split: (N, H, W, C) uint8, memory-mapped, or files.

    Raises:
        InputError: the file that says so is missing or damaged.
    """
    listed, packed = folder / IMAGE_FILES.name, folder / IMAGES.name
    path, read = (listed, _listed) if listed.is_file() else (packed, _packed)
    if not path.is_file():
        raise InputError(f"{path} is missing: `osr run prepare-split` makes it.")
    try:
        return read(path)
    except _DAMAGES as error:
        raise damaged(path, f"no images: {error!r}") from None


def _listed(path: Path) -> ImageFiles:
    with path.open(encoding="utf-8") as file:
        head = json.loads(file.readline())
        names = np.array([json.loads(line) for line in file])
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError("not a name in each line")
    root = workspace_root() / Path(head["root"])
    return ImageFiles(root, names, int(head["channels"]), int(head["max_pixels"]))


def _packed(path: Path) -> NDArray[np.uint8]:
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError("not (N, H, W, C) uint8")
    return images


def open_part(split: Split, rows: IntArray, *, frame: Frame, num_workers: int) -> Images:
    """The images of `rows` with their labels, read when they are asked for.

    Args:
        split: where the labels stand.
        rows: (N,) int64.
        frame: the square that files are brought to.
        num_workers: processes that read files.

    Raises:
        InputError: the images are missing or damaged, or not as many as the split divides.
    """
    images = open_images()
    if len(images) != len(split.targets):
        raise InputError(
            f"{SPLIT} divides {len(split.targets):,} images, but {len(images):,} lie beside it: "
            "files of different runs do not go together; run `osr run --force prepare-split`."
        )
    return _labelled(images, rows, split.labels[rows], frame, num_workers)


def save_known_source(data: ImageSet, labels: IntArray, folder: Path, *, root: str, max_pixels: int) -> None:
    """Write the images of one known source and their labels (N,) into a folder of its own."""
    folder.mkdir(parents=True)
    save_images([data], folder, root=root, max_pixels=max_pixels)
    np.save(folder / LABELS, labels)


def open_known_source(folder: Path, *, frame: Frame, num_workers: int) -> Images:
    """What `save_known_source` wrote; see `open_part`.

    Raises:
        InputError: the images or their labels are missing or damaged.
    """
    images: Pixels = open_images(folder)
    try:
        labels: IntArray = np.load(folder / LABELS, allow_pickle=False)
    except _DAMAGES as error:
        raise damaged(folder / LABELS, f"no labels: {error!r}") from None
    return _labelled(images, np.arange(len(labels)), labels, frame, num_workers)


def _labelled(images: Pixels, rows: IntArray, known: IntArray, frame: Frame, num_workers: int) -> Images:
    from osr.data.labelled import labelled  # PyTorch: seconds that stages without a network need not wait

    return labelled(images, rows, known, frame=frame, num_workers=num_workers)


def sample_images(rows: IntArray, frame: Callable[[], Frame]) -> NDArray[np.uint8]:
    """(M, H, W, C) uint8, images of the split that stand for those of `rows`; see `osr.data.labelled`."""
    from osr.data.labelled import sample_of

    return sample_of(open_images(), rows, frame)
