"""What command init says: what was found, what it wrote, and the README of the project."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from osr.params import Params
from osr.settings.sentences import listed
from pipeline.starting.look import Found
from pipeline.starting.settings import FEWEST_IMAGES

FEW = 20  # images of a class
NO_CLASS = frozenset({"other", "others", "rest", "misc", "miscellaneous", "none", "negative", "background"})
USUAL_SIZE = 224  # pixels that most networks of timm were trained on


def found_text(photos: Path, found: Found, small: Sequence[str], pattern: str | None) -> str:
    """Classes, sizes, colours, groups (kept together by `pattern`, if any), copies and damaged files."""
    counts = found.counts
    sides = found.sizes
    low, high = sides.min(axis=0), sides.max(axis=0)
    size = f"{low[0]} x {low[1]}" if (low == high).all() else f"{low[0]} x {low[1]} to {high[0]} x {high[1]}"
    lines = [
        f"{found.total:,} images of {len(counts)} classes in {photos}",
        f"classes: {listed([f'{name} ({count})' for name, count in counts.items()])}",
        f"size: {size} pixels, the smaller side {found.short_side} in the median; "
        f"{'colour' if found.channels == 3 else 'grey'}",
    ]
    if found.decoded < found.total:
        lines.append(f"looked closely at {found.decoded:,} of them, evenly spread")
    if found.has_parts:
        lines.append("folders or columns say which images train, validate and test: they stay so")
    bad = [image.problem.removesuffix(".") for image in found.odd if image.is_bad]
    if bad:
        lines.append(f"damaged and left out: {len(bad)}: {listed(bad)}")
    if converted := len(found.odd) - len(bad):
        lines.append(f"converted when they are read (palette, CMYK, 16-bit, transparent): {converted}")
    if found.copies:
        lines.append(f"copies, pixel for pixel: {found.copies}; the report names those in two parts")
    if found.conflicts:
        lines.append(
            f"IMAGES IN SEVERAL CLASSES, pixel for pixel: {found.conflicts}; one label at most is right"
        )
    if found.deeper and pattern is not None:
        number = sum(map(len, found.deeper.values()))
        lines.append(f"folders in classes: {number:,}; each stays in one part (dataset.group_pattern)")
    elif found.groups is not None and pattern is not None:
        groups = found.groups
        lines.append(
            f"names look like groups: {groups.number:,}, such as {groups.example!r} with {groups.images} "
            "images; each stays in one part (dataset.group_pattern; --no-groups divides them)"
        )
    elif found.groups is not None and not (found.has_groups or found.deeper):
        groups = found.groups
        lines.append(
            f"NAMES LOOK LIKE GROUPS: {groups.images} images begin with {groups.example!r}, and so on, "
            f"{groups.number:,} groups. "
            "If images of a group show one object, they must not be divided between training and test, or "
            "every number is too good: set dataset.group_pattern."
        )
    if vague := [name for name in counts if name.casefold() in NO_CLASS]:
        lines.append(
            f"learned as one known class: {listed(vague)}; if its images fit no class, move them out "
            "and give them as --unknown"
        )
    if left_out := [*small, *(f"{name} (none)" for name in found.empty)]:
        lines.append(f"left out, with fewer than {FEWEST_IMAGES} images: {listed(left_out)}")
    if small:
        lines.append("split.known names the others: name these there, too, when they have more images")
    few = [name for name, count in counts.items() if FEWEST_IMAGES <= count < FEW]
    if few:
        lines.append(f"few images, so that their numbers say little: {listed(few)}")
    return "".join(f"  {line}\n" for line in lines)


def laid_down_text(project: Path, params: Params, presets: Sequence[str], made: str) -> str:
    """Where the project is, what it will do, and the next command."""
    backbone = params.model.backbone
    how = f"{backbone.name}, from scratch"
    if presets and backbone.weights == "none":
        how += ", though the presets' rates are made for trained weights"
    if backbone.weights != "none":
        trained = "only a linear head learns" if params.train.regime == "probe" else "all of it learns"
        how = f"{backbone.name}, weights {backbone.weights}, at {params.model.image_size} pixels; {trained}"
    unknowns = "yours" if params.dataset.unknown_sources else "none, so rejection is estimated"
    fetch = "; the first run fetches them from the web" if backbone.weights == "pretrained" else ""
    return (
        f"\n  project: {project} ({made})\n"
        f"  network: {how}{fetch}{' (preset ' + ', '.join(presets) + ')' if presets else ''}\n"
        f"  unknown images: {unknowns}\n"
        f"  next: cd {shlex.quote(str(project))} && osr run\n"
    )


def readme_text(photos: Path, params: Params) -> str:
    """Ten lines."""
    better = "train longer or start from trained weights (`model.backbone`)"
    if params.train.regime == "probe":
        better = "frozen features are not enough: let all weights learn, `osr run --preset photos_tune`"
        size = params.model.image_size
        if isinstance(size, int) and size < USUAL_SIZE:
            larger = f"`osr run -S model.image_size={USUAL_SIZE}` (slower)"
            better = f"enlarge the photos to what the network was trained on, {larger}; or {better}"
    unknowns = (
        "At its end `osr run` says how many unknown images are rejected."
        if params.dataset.unknown_sources
        else "No unknown image is tested: what `osr run` says of rejection is an estimate."
    )
    return f"""# {photos.name}: known classes, or unknown

1. `osr run` trains on {photos}, and says what came out; it runs only what changed.
2. Open `artifacts/report.html`: warnings first, then numbers, mistakes as pictures, every class.
3. `osr predict photo.jpg folder/ --output verdicts.csv` judges new images: a class, or `unknown`.
4. {unknowns}
5. If the accuracy is below what you need: {better}.
6. Settings stand in `params.yaml`, each with a comment; `osr run -S key=value` tries another value.
7. To keep classes out and test with them: `split.unknown: [NAME]`. `osr split` shows what is where.
8. Runs side by side: `mlflow ui`, or `osr compare`. `osr.version` names the osr that made the results.
"""
