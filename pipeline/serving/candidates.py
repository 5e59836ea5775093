"""The folder of `osr discover`: class folders of candidates, a table of what was rejected, and a page."""

from __future__ import annotations

import csv
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from osr.data.contact_sheet import grid_sheet, spread
from osr.data.image_files import SUFFIXES
from osr.inference.discovery import Candidates
from osr.inference.streams import Reader, Source
from osr.plots.thumbnails import inline
from osr.stored.files import written_whole
from pipeline.serving.rejected import Judged

SHOWN = 60  # images on a sheet: of a candidate those deepest in it, of the rest some
CLASSES, TABLE, PAGE, LEFT = "classes", "rejected.csv", "index.html", "no_candidate"
TEMPLATE = Path(__file__).with_name("discover.html.jinja")
STABLE, DOUBTFUL = 0.75, 0.6  # Hennig 2007


class Shown(NamedTuple):
    """Images of the page: a candidate, or those in none, which have no stability."""

    name: str
    size: int
    stability: str
    nearest: str
    sheet: str


def stability_told(stability: float) -> str:
    """A stability, and what it means."""
    word = "stable" if stability >= STABLE else "doubtful" if stability >= DOUBTFUL else "unstable"
    return f"stability {stability:.2f} ({word})"


def write_candidates(out: Path, reader: Reader, judged: Judged, found: Candidates, nothing: str) -> str:
    """Folders, sheets, table and page, whole or not at all; returns what to say.

    Args:
        out: the folder to make.
        reader: of images.
        judged: what was clustered.
        found: what came of it.
        nothing: to say where that is no candidate.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(out) as aside:
        aside.mkdir()
        shown = list[Shown]()
        for number, stability in enumerate(found.stability):
            name = f"candidate_{number + 1}"
            rows = np.flatnonzero(found.labels == number)
            rows = rows[np.argsort(-found.membership[rows], kind="stable")]
            _copy([Path(judged.names[row]) for row in rows], aside / CLASSES / name)
            sheet = _sheet(aside / f"{name}.png", reader, judged, rows[:SHOWN])
            nearest = _nearest(judged, rows)
            shown.append(Shown(name, len(rows), stability_told(stability), nearest, sheet))
        rest, left = np.flatnonzero(found.labels < 0), None
        if len(rest):
            sheet = _sheet(aside / f"{LEFT}.png", reader, judged, rest[spread(len(rest), SHOWN)])
            left = Shown(LEFT, len(rest), "", _nearest(judged, rest), sheet)
        _write_table(aside / TABLE, judged, found)
        summary = (
            f"{len(judged.names):,} rejected images: {len(shown)} candidate"
            f"{'s' if len(shown) > 1 else ''} for new classes, and {len(rest):,} images in none."
        )
        (aside / PAGE).write_text(_page(summary if shown else nothing, shown, left), encoding="utf-8")
    if not shown:
        return f"{nothing}\nLook at {out / PAGE}; {out / TABLE} names every rejected image.\n"
    lines = [f"{each.name}: {each.size:,} images, {each.stability}" for each in shown]
    return "\n".join([summary, *lines, f"Look at {out / PAGE}; the folders are in {out / CLASSES}.", ""])


def _sheet(path: Path, reader: Reader, judged: Judged, rows: NDArray[np.int64]) -> str:
    """Draw images, as a file and for the page."""
    pictures = reader[[Source(judged.names[row]) for row in rows]]
    sheet = io.BytesIO()
    grid_sheet([read.pixels for read in pictures if read.pixels is not None]).save(sheet, "PNG")
    path.write_bytes(sheet.getvalue())
    return inline(sheet.getvalue())


def _nearest(judged: Judged, rows: NDArray[np.int64]) -> str:
    counts = Counter(judged.nearest[row] for row in rows).most_common(3)
    return ", ".join(f"{count} for {label}" for label, count in counts)


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Copies under names that `osr init` takes for images, each of its own."""
    folder.mkdir(parents=True)
    for file in files:
        ending = file.suffix if file.suffix.lower() in SUFFIXES else ".png"  # readers go by the content
        target, number = folder / f"{file.stem}{ending}", 1
        while target.exists():
            number += 1
            target = folder / f"{file.stem}_{number}{ending}"
        shutil.copyfile(file, target)


def _write_table(path: Path, judged: Judged, found: Candidates) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "candidate", "membership", "nearest"))
        rows = zip(judged.names, found.labels, found.membership, judged.nearest, strict=True)
        for name, label, membership, nearest in rows:
            candidate = f"candidate_{label + 1}" if label >= 0 else ""
            table.writerow((name, candidate, f"{membership:.4f}", nearest))


def _page(summary: str, shown: Sequence[Shown], left: Shown | None) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        summary=summary, candidates=shown, left=left, limit=SHOWN, classes=CLASSES, table=TABLE
    )
