"""The model card of an exported classifier: what it is, what it knows, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from osr.inference.folder import Recalibration
from osr.inference.parts import Parts, own_code
from osr.metrics.thresholds import Threshold
from osr.params import Params
from osr.settings.own_code import file_name
from osr.splits.split import Split
from pipeline.report.verdicts import unfit
from pipeline.workspace.stages import SPLIT, STAGES
from pipeline.workspace.stamps import stage_metrics

COLUMNS = {
    "auroc": "AUROC",
    "auoscr": "AUOSCR",
    "known_acceptance": "knowns accepted",
    "unknown_rejection": "unknowns rejected",
}
USE = """\
```python
import osr

classifier = osr.load("THIS FOLDER"{allowed})
found = classifier.predict("photos/")              # also paths, bytes, Pillow's images, arrays
found.labels, found.scores, found.p_values, found.top(3)
classifier.predict("photo.png", accept=0.99)       # accepts 99 % of known images; also threshold=, p_value=
```

{code}A file that was changed, or that is of another run, is refused by name."""


def card(
    parts: Parts, params: Params, detector: str, versions: Mapping[str, str], neighbours: int = 0
) -> str:
    """Markdown.

    Args:
        parts: what judges.
        params: of the run.
        detector: that judges unless another is asked for.
        versions: of the software.
        neighbours: how many training images of each class are in the folder, at most.
    """
    model, fit = parts.model, parts.detectors[detector][1]
    size, channels = model.image_format.size, model.image_format.channels
    split, weights = model.origin.split, model.origin.weights
    sections = [
        "# An open-set classifier",
        f"It says which of {len(model.class_names)} known classes an image is of, or `unknown`.",
        "## Use\n\n" + USE.format(**_use(parts)),
        "## What it is\n\n"
        f"- known classes: {', '.join(model.class_names)}\n"
        f"- network: {params.model.backbone.name}, images of {size} x {size} pixels, {channels} channels\n"
        f"- data set: {params.dataset.name}, protocol {params.split.protocol}, trial {params.split.trial}; "
        f"digest of the split {split}\n"
        f"- digest of the weights: {weights}\n"
        f"- judges with: {detector}; also {', '.join(name for name in parts.detectors if name != detector)}\n"
        f"- threshold: {told_theta(fit)}, by the rule `{fit.rule}` (target {fit.target:g}) from "
        f"{fit.num_images} validation images of known classes, of which it accepts {fit.acceptance:.1%}\n"
        f"- software: {', '.join(f'{name} {number}' for name, number in versions.items())}"
        + _pictures(neighbours),
        "## How well it does\n\n" + _numbers(parts, detector),
    ]
    return "\n\n".join(sections) + "\n"


def reservations(detector: str) -> list[str]:
    """Why the present run's classifier should not be used as it is; nothing where it was not evaluated."""
    if not STAGES["evaluate"].metrics.is_file():
        return []
    both = len(Split.load(SPLIT).contradictions)
    return unfit(stage_metrics("evaluate"), detector, num_contradictions=both)


def _pictures(neighbours: int) -> str:
    if not neighbours:
        return ""
    return (
        f"\n- **holds pictures**: up to {neighbours} training images of each class, small, which whoever has "
        "this folder, or may ask the server that reads it, can see"
    )


def told_theta(fit: Threshold) -> str:
    """A threshold in words; of several, for the predicted classes, the ends."""
    if fit.per_class is None:
        return f"{fit.value:.6g}"
    return f"{min(fit.per_class):.6g} to {fit.value:.6g}, one for each predicted class"


def _use(parts: Parts) -> dict[str, str]:
    """What loading asks for: nothing, or code of somebody's own."""
    own = own_code(parts)
    if not own:
        return {"allowed": "", "code": "Reading it runs no code. "}
    files = ", ".join(f"`{name}` (`{file_name(name)}`)" for name in own)
    told = f"Reading it imports {files}, which must stand where it is loaded, and no other code. "
    return {"allowed": f", allow_code={list(own)}", "code": told}


class Renewed(NamedTuple):
    """What a new version of an exported classifier was made from.

    Args:
        source: the earlier version, and the images.
        folder: the name of the earlier version.
        by_class: how many images of each known class; None where nothing says it.
        accuracy: share of them whose class the network finds; None where nothing says it.
        calibration: what became of that of the probabilities.
        thresholds: detector -> the earlier one, the share of the images that it accepts, and the new one.
    """

    source: Recalibration
    folder: str
    by_class: Mapping[str, int] | None
    accuracy: float | None
    calibration: str
    thresholds: Mapping[str, tuple[Threshold, float, Threshold]]


def renewed_card(renewed: Renewed, earlier: str) -> str:
    """The card of the new version, with that of the earlier one below it."""
    source = renewed.source
    groups = "" if source.num_groups is None else f" in {source.num_groups} groups"
    classes = "nothing says of which classes"
    if renewed.by_class is not None:
        counts = ", ".join(f"{count} {name}" for name, count in renewed.by_class.items())
        classes = f"{counts}; the network finds the class of {renewed.accuracy:.1%}"
    rows = [
        f"| {name} | {told_theta(before)} | {share:.1%} | {told_theta(now)} | {now.acceptance:.1%} "
        f"| {now.target:g}, `{now.rule}` |"
        for name, (before, share, now) in renewed.thresholds.items()
    ]
    parts = [
        "# An open-set classifier with new thresholds",
        f"- version before: `{renewed.folder}`, whose classifier.json has the digest {source.version}\n"
        f"- new images of known classes: {source.num_images}{groups}, of `{source.images}`; {classes}\n"
        f"- digest of these images: {source.digest}\n"
        "- made anew from them: the thresholds of all detectors, and the scores behind p-values\n"
        f"- calibration of the probabilities: {renewed.calibration}\n"
        "- as before: the network, the fit of every detector, the known classes",
        "| detector | threshold before | accepts of the new images | threshold now | accepts | asked |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows),
        "Below is the card of the version before. Its threshold no longer holds, nor do its shares of knowns "
        "accepted and unknowns rejected; its other numbers are of its own test images.",
        earlier,
    ]
    return "\n\n".join(parts)


def _numbers(parts: Parts, detector: str) -> str:
    """Why not to use it, if anything says so, and the test metrics of every detector with their intervals."""
    if not STAGES["evaluate"].metrics.is_file():
        return "This run was not evaluated."
    metrics = stage_metrics("evaluate")
    columns = {key: told for key, told in COLUMNS.items() if key in metrics}
    lines = [f"**{told}**\n" for told in reservations(detector)]
    lines += [
        f"Accuracy on test images of known classes: {_cell(metrics['closed_set'], 'accuracy')}. In brackets "
        "are confidence intervals.",
        "",
        f"| detector | {' | '.join(columns.values())} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name in parts.detectors:
        own = {key: values.get(name) for key, values in metrics.items() if isinstance(values, dict)}
        lines.append(f"| {name} | {' | '.join(_cell(own, key) for key in columns)} |")
    return "\n".join(lines)


def _cell(values: Mapping[str, Any], key: str) -> str:
    value, low, high = (values.get(f"{key}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
