"""An exported folder as commands load it."""

from __future__ import annotations

import logging
from pathlib import Path

from osr.inference.classifier import OpenSetClassifier

logger = logging.getLogger("osr.serving")


def load_folder(folder: Path, *, allow_code: str | None = None) -> OpenSetClassifier:
    """What `OpenSetClassifier.load` reads; who allows code that nothing asks for is told so.

    Args:
        folder: that `osr export` made.
        allow_code: the one `module:Class` that may be imported for the network.

    Raises:
        InputError: see `OpenSetClassifier.load`.
    """
    classifier = OpenSetClassifier.load(folder, allow_code=allow_code)
    tell_of_unused_code(classifier, allow_code)
    return classifier


def tell_of_unused_code(classifier: OpenSetClassifier, allow_code: str | None) -> None:
    """Say that `--allow-code` names nothing that is used."""
    if allow_code is not None and allow_code != (name := classifier.parts.model.settings.backbone.name):
        logger.warning("--allow-code %s was not needed: the network is %s", allow_code, name)
