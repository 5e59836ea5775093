"""Thresholds made anew from new images of the known classes; network and detectors stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from osr.errors import InputError
from osr.metrics.thresholds import Threshold, fewest_images, fit_class_thresholds, fit_threshold

Rule = Literal["acceptance", "conformal", "conformal_per_class"]


def new_thresholds(
    fitted: Mapping[str, Threshold],
    scores: Mapping[str, NDArray[np.float64]],
    groups: NDArray[np.int64] | None = None,
    *,
    predictions: NDArray[np.int64] | None = None,
    class_names: Sequence[str] = (),
    rule: Rule | None = None,
    accept: float | None = None,
) -> dict[str, Threshold]:
    """A threshold for every detector by the rule and the target of the earlier one, from other images.

    Args:
        fitted: the earlier ones, by detector.
        scores: detector -> (n,) scores of new images of known classes.
        groups: (n,) the group of each of these; None where each stands for itself.
        predictions: (n,) int in 0..K-1, the predicted classes of these; for thresholds per class.
        class_names: K names.
        rule: another rule for all of them; see `osr.metrics.thresholds`.
        accept: another share (0..1, without the ends) that is to be accepted.

    Raises:
        InputError: so few images that even the threshold that accepts all of them accepts less than the
            target of new ones; or thresholds that were made from background images, of which there are none.
    """
    made = {}
    for name, earlier in fitted.items():
        used, target = rule or earlier.rule, earlier.target if accept is None else accept
        if used == "background" or (earlier.rule == "background" and accept is None):
            raise InputError(
                f"The threshold of {name} was made from background images, and new ones are not given: say "
                "--rule conformal (or acceptance) and --accept SHARE."
            )
        count = len(scores[name]) if groups is None else len(np.unique(groups))
        if target < 1 and count < (fewest := fewest_images(target)):
            what = "images" if groups is None else "groups of images"
            raise InputError(
                f"{count} {what} are too few for a threshold that accepts {target:g} of new known images: it "
                f"needs {fewest} at least."
            )
        if used == "conformal_per_class" and predictions is not None:
            made[name] = fit_class_thresholds(
                scores[name], predictions, class_names=class_names, target_acceptance=target, groups=groups
            )
        else:
            made[name] = fit_threshold(
                scores[name], target_acceptance=target, conformal=used == "conformal", groups=groups
            )
    return made
