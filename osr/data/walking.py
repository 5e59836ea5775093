"""Which files below a folder are images, and what is passed over: one rule for training and judging."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from osr.data.image_files import SUFFIXES
from osr.errors import InputError

_NO_DECODER = (".heic", ".heif")


class PassedOver:
    """What lies in a folder and is no image to read, counted by the ending of its name.

    `num_stray` of them are images by their names that lie where only class folders are looked for.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.num_stray = 0

    def __str__(self) -> str:
        """Such as `3 .heic, 1 hidden`, most first."""
        counts = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count} {kind}" for kind, count in counts)

    @property
    def sentence(self) -> str:
        """What to say, in one line; empty where there is nothing."""
        if not self.counts:
            return ""
        has_heic = any(self.counts[ending] for ending in _NO_DECODER)
        advice = "; HEIC needs a decoder that Pillow lacks: save these as JPEG or PNG" if has_heic else ""
        where = ", or lies in no class folder" if self.num_stray else ""
        return f"passed over what is no image by its name{where}: {self}{advice}"

    def add(self, path: Path, *, belongs_below: bool = False) -> None:
        """Count a file, or a folder that is not looked into; images may belong into a folder below."""
        self.num_stray += belongs_below and not is_hidden(path.name) and path.suffix.lower() in SUFFIXES
        self.counts["hidden" if is_hidden(path.name) else path.suffix.lower() or "without ending"] += 1


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's own: of a system, an editor or a packer."""
    return name.startswith(".") or name == "__MACOSX"


def images_below(
    folder: Path, passed: PassedOver, check_link: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """Every image below a folder, in alphabetical order; hidden files and folders are passed over.

    Args:
        folder: where to look.
        passed: counts the rest.
        check_link: raises for a link that is not allowed; without it, links to files are followed, and links
            to folders, which may be loops, are passed over.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        path = Path(entry.path)
        if is_hidden(entry.name):
            passed.add(path)
            continue
        if entry.is_symlink():
            if check_link is not None:
                check_link(path)
            elif not _leads_to_file(path):
                passed.counts["links to folders or to nothing"] += 1
                continue
        if entry.is_dir():
            yield from images_below(path, passed, check_link)
        elif not entry.is_file():
            passed.counts["pipes and devices"] += 1
        elif path.suffix.lower() in SUFFIXES:
            yield path
        else:
            passed.add(path)


def find_images(paths: Sequence[Path]) -> tuple[list[Path], PassedOver]:
    """The files named, whatever their names, and the images below a folder, each in alphabetical order.

    Raises:
        InputError: a path does not exist, or a folder holds no image.
    """
    passed = PassedOver()
    return [file for path in paths for file in images_of(path, passed)], passed


def images_of(path: Path, passed: PassedOver) -> Iterator[Path]:
    """A file, whatever its name, or the images below a folder; see `find_images`."""
    if not path.is_dir():
        if not os.path.lexists(path):
            raise InputError(f"{path} does not exist.")
        yield path
        return
    number = 0
    for number, image in enumerate(images_below(path, passed), 1):  # noqa: B007
        yield image
    if not number:
        told = f" ({passed.sentence})" if passed.counts else ""
        raise InputError(f"{path} holds no image: names must end in one of {', '.join(SUFFIXES)}{told}.")


def is_utf8(name: str) -> bool:
    """Whether a name is text that files and tables can hold; Linux allows any bytes."""
    return name.encode("utf-8", "replace").decode() == name


def _leads_to_file(link: Path) -> bool:
    try:
        return link.stat() is not None and not link.is_dir()
    except OSError:
        return False
