"""Data sets whose images are files, listed: the user's folder or CSV, TinyImageNet, Textures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from osr.data.files import Listing, list_csv, list_folder
from osr.data.grouping import grouped
from osr.data.settings import DatasetSettings
from osr.data.vision import DAMAGES, download_failed
from osr.errors import InputError


def folder(settings: DatasetSettings) -> Listing:
    """The user's class sub-folders; see `osr.data.files.list_folder`."""
    listing = list_folder(settings)
    depth = len(Path(settings.folder).parts) + (1 if listing.parts is None else 2)
    return grouped(listing, settings.group_pattern, class_depth=depth)


def table(settings: DatasetSettings) -> Listing:
    """The images of the user's CSV; see `osr.data.files.list_csv`."""
    return grouped(list_csv(settings), settings.group_pattern)


def tiny_imagenet(settings: DatasetSettings) -> Listing:
    """110,000 photographs of 200 classes, 64 x 64 colour (Le and Yang 2015).

    The published validation images are the test: those called test have no labels. Class ids follow the
    sorted WordNet ids, as in the published lists.

    Raises:
        InputError: the unpacked folder is missing or not whole.
    """
    root = Path(settings.root)
    top = root / "tiny-imagenet-200"
    annotations, words = top / "val" / "val_annotations.txt", top / "words.txt"
    train = sorted((top / "train").glob("*/images/*.JPEG"))
    if not (train and annotations.is_file() and words.is_file()):
        raise InputError(
            f"data set 'tinyimagenet': files are missing, and torchvision cannot fetch them; unpack the "
            f"published tiny-imagenet-200.zip so that {annotations} and {top / 'train'} exist."
        )
    lines = [line.split("\t")[:2] for line in annotations.read_text(encoding="utf-8").splitlines()]
    named = dict(line.split("\t", 1) for line in words.read_text(encoding="utf-8").splitlines())
    listing = Listing.make(
        root,
        [str(path.relative_to(root)) for path in train]
        + [str((top / "val" / "images" / name).relative_to(root)) for name, _ in lines],
        [path.parent.parent.name for path in train] + [label for _, label in lines],
        ["train"] * len(train) + ["test"] * len(lines),
    )
    names = tuple(f"{named.get(name, name).split(',')[0]} ({name})" for name in listing.class_names)
    return listing.renamed(names)


def textures(settings: DatasetSettings) -> Listing:
    """5,640 photographs of 47 textures of any size: DTD, its first division (Cimpoi et al. 2014)."""
    from torchvision.datasets import DTD

    root = Path(settings.root)
    try:
        divided = {
            part: DTD(root=settings.root, split=part, download=settings.download)
            for part in ("train", "val", "test")
        }
    except DAMAGES as error:
        raise download_failed(settings, ["dtd/dtd-r1.0.1.tar.gz"], error) from error
    names, labels, parts = [], [], []
    for part, data in divided.items():
        names += [str(Path(file).relative_to(root)) for file in data._image_files]
        labels += [data.classes[label] for label in data._labels]
        parts += [part] * len(data)
    return Listing.make(root, names, labels, parts)


LISTINGS: dict[str, Callable[[DatasetSettings], Listing]] = {
    "tinyimagenet": tiny_imagenet,
    "textures": textures,
    "folder": folder,
    "csv": table,
}
