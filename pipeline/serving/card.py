"""The model card of an exported classifier: what it is, what it knows, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osr.inference.parts import Parts
from osr.params import Params
from pipeline.workspace.stages import STAGES
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

classifier = osr.load("THIS FOLDER")
found = classifier.predict("photos/")              # also paths, bytes, Pillow's images, arrays
found.labels, found.scores, found.p_values, found.top(3)
classifier.predict("photo.png", accept=0.99)       # accepts 99 % of known images; also threshold=, p_value=
```

Reading it runs no code. A file that was changed, or that is of another run, is refused by name."""


def card(parts: Parts, params: Params, detector: str, versions: Mapping[str, str]) -> str:
    """Markdown.

    Args:
        parts: what judges.
        params: of the run.
        detector: that judges unless another is asked for.
        versions: of the software.
    """
    model, fit = parts.model, parts.detectors[detector][1]
    size, channels = model.image_format.size, model.image_format.channels
    split, weights = model.origin.split, model.origin.weights
    sections = [
        "# An open-set classifier",
        f"It says which of {len(model.class_names)} known classes an image is of, or `unknown`.",
        "## Use\n\n" + USE,
        "## What it is\n\n"
        f"- known classes: {', '.join(model.class_names)}\n"
        f"- network: {params.model.backbone.name}, images of {size} x {size} pixels, {channels} channels\n"
        f"- data set: {params.dataset.name}, protocol {params.split.protocol}, trial {params.split.trial}; "
        f"digest of the split {split}\n"
        f"- digest of the weights: {weights}\n"
        f"- judges with: {detector}; also {', '.join(name for name in parts.detectors if name != detector)}\n"
        f"- threshold: {fit.value:.6g}, by the rule `{fit.rule}` (target {fit.target:g}) from "
        f"{fit.num_images} validation images of known classes, of which it accepts {fit.acceptance:.1%}\n"
        f"- software: {', '.join(f'{name} {number}' for name, number in versions.items())}",
        "## How well it does\n\n" + _numbers(parts),
    ]
    return "\n\n".join(sections) + "\n"


def _numbers(parts: Parts) -> str:
    """The test metrics of every detector with their intervals."""
    if not STAGES["evaluate"].metrics.is_file():
        return "This run was not evaluated."
    metrics = stage_metrics("evaluate")
    columns = {key: told for key, told in COLUMNS.items() if key in metrics}
    lines = [
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
