"""An exported folder as commands load it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from osr.inference.classifier import OpenSetClassifier
from osr.inference.parts import own_code

logger = logging.getLogger("osr.serving")


def load_folder(folder: Path, *, allow_code: Collection[str] | None = None) -> OpenSetClassifier:
    """What `OpenSetClassifier.load` reads; who allows code that nothing asks for is told so.

    Args:
        folder: that `osr export` made.
        allow_code: each `module:Class` that may be imported.

    Raises:
        InputError: see `OpenSetClassifier.load`.
    """
    classifier = OpenSetClassifier.load(folder, allow_code=allow_code)
    tell_of_unused_code(classifier, allow_code)
    return classifier


def tell_of_unused_code(classifier: OpenSetClassifier, allow_code: Collection[str] | None) -> None:
    """Say that `--allow-code` names nothing that is used."""
    network, detectors = classifier.parts.model.settings.backbone.name, classifier.detectors
    for name in allow_code or ():
        if name not in own_code(classifier.parts):
            told = f"the network is {network}, the detectors {', '.join(detectors)}"
            logger.warning("--allow-code %s was not needed: %s", name, told)


def held_out_of(classifier: OpenSetClassifier, detector: str | None = None) -> tuple[int, str]:
    """The validation knowns behind thresholds and p-values, groups where there are groups: n, and in words.

    No p-value is below 1 / (n + 1).
    """
    count = len(classifier.scores[detector or classifier.detector])
    if classifier.groups is None:
        return count, f"{count:,} known images held out"
    groups = classifier.held_out(detector)
    return groups, f"{groups:,} groups of {count:,} known images held out"
