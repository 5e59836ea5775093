"""What a reader of a run's numbers should know before believing them, one sentence each."""

from __future__ import annotations

import csv
import math
from statistics import NormalDist

from osr.metrics.thresholds import Threshold
from osr.settings.sentences import listed
from pipeline.near_copies import num_near_copies
from pipeline.report.run_files import RunFiles
from pipeline.report.verdicts import verdicts
from pipeline.split_cautions import split_cautions
from pipeline.workspace.stages import ODD_IMAGES

FEW_TEST_IMAGES = 30  # of a class: one image moves its shares by more than 3 points
FEW_VALIDATION_IMAGES = 100  # behind a threshold
FEW_GROUPS = 20  # of test images: the intervals of fewer are guesses at how much groups differ


def cautions(run: RunFiles) -> list[str]:
    """On use, bad files, leaks, tiny classes, calibration, thresholds, detectors below chance."""
    return [
        *verdicts(run),
        *unreadable(),
        *split_cautions(run.split, run.params.split, num_near_copies=num_near_copies()),
        *_tiny_classes(run),
        *_few_groups(run),
        *_calibration(run),
        *_few_validation_images(run),
        *_missed_thresholds(run),
        *_worse_than_chance(run),
    ]


def acceptance_bounds(
    target: float, *, num_validation: int, num_test: int, confidence: float
) -> tuple[float, float]:
    """Where the acceptance of test knowns may lie by chance when test and validation images are alike.

    The normal range around the target, whose variance is binomial twice: the threshold was made from
    `num_validation` images, and its acceptance is counted on `num_test` others.

    Args:
        target: share that the threshold accepted of its validation images, in 0..1.
        num_validation: at least 1; groups of images where there are any.
        num_test: at least 1, the same.
        confidence: in 0..1 without the ends.
    """
    deviations = NormalDist().inv_cdf((1 + confidence) / 2)
    half = deviations * math.sqrt(target * (1 - target) * (1 / num_validation + 1 / num_test))
    # Half an image in each direction, because a share of few images moves in steps.
    half += 0.5 / num_test + 0.5 / num_validation
    return max(0.0, target - half), min(1.0, target + half)


def unreadable() -> list[str]:
    """A sentence on files that stage prepare-split has left out, if there are any."""
    if not ODD_IMAGES.is_file():
        return []
    with ODD_IMAGES.open(newline="", encoding="utf-8") as file:
        count = sum(row["kind"] == "unreadable" for row in csv.DictReader(file))
    told = f"Files that cannot be read as images and are left out: {count:,}. {ODD_IMAGES} lists them."
    return [told] if count else []


def _tiny_classes(run: RunFiles) -> list[str]:
    rows = [*run.known_classes, *run.unknown_classes]
    tiny = [f"{row['name']} ({row['images']})" for row in rows if row["images"] < FEW_TEST_IMAGES]
    if not tiny:
        return []
    return [
        f"Classes with fewer than {FEW_TEST_IMAGES} test images, whose shares say little: {listed(tiny)}."
    ]


def _few_groups(run: RunFiles) -> list[str]:
    if run.groups is None:
        return []
    known, unknown = run.groups.counts
    if min(run.groups.counts if run.has_unknowns else (known,)) >= FEW_GROUPS:
        return []
    others = f" and {unknown} of unknown ones" if run.has_unknowns else ""
    return [
        f"The test images stand in {known} groups of known{others or ' images'}: how much groups "
        f"differ, and with it every interval, is not well known from fewer than {FEW_GROUPS}."
    ]


def _calibration(run: RunFiles) -> list[str]:
    fit, found = run.calibration, list[str]()
    if fit.asked == "none":
        return ["Probabilities are not calibrated: calibrate.method is none."]
    if fit.not_used:
        found.append(f"Probabilities are not calibrated: {fit.asked} is not used, because {fit.not_used}.")
    if fit.at_bound:
        found.append(f"The calibration is at its bound, not the optimum: {fit.at_bound}.")
    quality = run.metrics["closed_set"]
    if not fit.not_used and quality["ece_after"] > quality["ece_before"]:
        found.append(
            "Calibration made the calibration error of the test images larger: "
            f"{quality['ece_before']:.3f} before, {quality['ece_after']:.3f} after."
        )
    if quality["nll_after"] > quality["nll_before"]:
        found.append(
            "Calibration made the NLL of the test images larger: "
            f"{quality['nll_before']:.3f} before, {quality['nll_after']:.3f} after."
        )
    return found


def _few_validation_images(run: RunFiles) -> list[str]:
    fit = run.thresholds[run.detector]
    groups, images = fit.num_groups, fit.num_images
    if (images if groups is None else groups) >= FEW_VALIDATION_IMAGES:
        return []
    made_from = f"{images} validation images" if groups is None else f"{groups} groups of validation images"
    return [f"The thresholds were made from {made_from} only."]


def _missed_thresholds(run: RunFiles) -> list[str]:
    """Thresholds that were asked for another share of knowns than the test shows, and whether by chance."""
    num_test = int((run.outputs.labels >= 0).sum()) if run.groups is None else run.groups.counts[0]
    share = 1 - run.params.evaluate.confidence
    missed, unlucky, unasked = [], [], []
    for name in run.params.detectors.enabled:
        fit, accepted = run.thresholds[name], run.metrics["known_acceptance"][name]
        low, high = acceptance_bounds(
            fit.acceptance,
            num_validation=fit.num_groups or fit.num_images,
            num_test=num_test,
            confidence=1 - share / len(run.params.detectors.enabled),  # of all detectors together
        )
        is_explained = low <= accepted <= high
        if is_off(fit, *run.ends_of_acceptance(name)):
            told = f"{name} {run.asked_and_got(name)}"
            unlucky.append(told) if is_explained else missed.append(told)
        elif not is_explained:
            told = f"{name} accepts {accepted:.1%} of the test knowns"
            unasked.append(f"{told}, where validation images foretell {low:.1%} to {high:.1%}")
    found = []
    if missed or unasked:
        found.append(
            f"Thresholds that do not keep their promise on test knowns, beyond chance: "
            f"{listed([*missed, *unasked])}. Probably test images differ from validation images."
        )
    if unlucky:
        found.append(
            f"Thresholds that accept another share of new known images than they were made to: "
            f"{listed(unlucky)}. With so few validation images that can be chance; more of them come nearer."
        )
    return found


def is_off(fit: Threshold, low: float, high: float) -> bool:
    """Whether an interval of what a threshold accepts excludes what it was asked for.

    A conformal one is asked for at least its target; under the background rule no share was asked for.
    """
    if fit.rule == "background":
        return False
    return fit.target > high or (fit.target < low and fit.rule == "acceptance")


def _worse_than_chance(run: RunFiles) -> list[str]:
    if not run.has_unknowns:
        return []
    names = [name for name in run.params.detectors.enabled if run.metrics["auroc_high"][name] < 0.5]
    return [f"Ranks unknowns as more known than knowns (AUROC below 0.5): {listed(names)}."] if names else []
