"""Which detector judges new images: the one that the settings name, or one chosen from known images alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from osr.detectors.settings import DetectorName
from osr.errors import InputError
from osr.metrics.threshold_files import load_thresholds
from osr.outputs import Outputs
from osr.params import Params
from osr.settings.guesses import none_of
from osr.settings.sentences import listed
from osr.splits.split import Split
from osr.stored.files import damaged, read_json, write_json
from pipeline.estimate import left_out
from pipeline.workspace.stages import (
    BACKGROUND_OUTPUTS,
    JUDGE,
    SPLIT,
    THRESHOLDS,
    TRAIN_OUTPUTS,
    VAL_OUTPUTS,
)
from pipeline.workspace.stamps import check, present
from pipeline.workspace.swap import new

if TYPE_CHECKING:
    from osr.estimation.choice import Choice

logger = logging.getLogger("osr")

AUTO = "auto"
_LISTED = "detectors.enabled"
_MADE_FROM = ("split", "weights", "thresholds")
_SHOWN = 5


def judge_of(params: Params, asked: str | None = None) -> str:
    """The detector that is asked for, or else the one that judges new images in the present run.

    Raises:
        InputError: the run has not fitted it; or one is to be chosen, and stage plot has not done so for this
            run.
    """
    enabled = params.detectors.enabled
    if asked is not None and asked not in enabled:
        raise InputError(_none_of(asked, enabled))
    if asked is not None or params.plot.detector != AUTO:
        return asked or params.plot.detector
    name = str(stored_choice()["detector"])
    if name not in enabled:
        raise damaged(JUDGE, f"{name} is none of {_LISTED}")
    return name


def _none_of(asked: str, enabled: Sequence[str]) -> str:
    """How to come by a detector that was not fitted, or what its name may be."""
    names, rule = get_args(DetectorName), f"one of {_LISTED}: {', '.join(enabled)}"
    if asked not in names:
        return none_of(f"--detector is {asked!r}", asked, names, rule) + "."
    more = ",".join([*enabled, asked])
    return (
        f"--detector is {asked!r}, but must be {rule}; `osr run -S '{_LISTED}=[{more}]'` fits it, too, and "
        "trains nothing anew."
    )


def stored_choice() -> dict[str, Any]:
    """What stage plot has chosen, as `choose_judge` wrote it.

    Raises:
        InputError: it is missing, damaged, or of another run.
    """
    stored = read_json(new(JUDGE), "judge")
    check(JUDGE, stored.made_from, present(*_MADE_FROM))
    return stored.content


def choose_judge(params: Params) -> Choice | None:
    """Choose a detector, and write the choice; None where the settings name one.

    Known classes are left out in turn, similar ones together, and the validation images of these play the
    unknown ones. No test image is opened, known or unknown.

    Raises:
        InputError: classes cannot be left out, and why, and no detector is enabled that judges all the same.
    """
    if params.plot.detector != AUTO:
        return None  # before PyTorch is imported: stage plot then draws on all cores
    from osr.detectors.registry import build_detectors
    from osr.estimation.choice import choose, without_evidence
    from osr.estimation.rejection import Stored

    limits = load_thresholds(THRESHOLDS)
    fit = next(iter(limits.of.values()))

    def read(path: Path) -> Outputs:
        found = Outputs.load(path)
        check(path, found.made_from, present("split", "weights"))
        return found

    val = read(VAL_OUTPUTS)
    seen = params.learns_features
    background = read(BACKGROUND_OUTPUTS) if fit.rule == "background" else None
    stored = Stored(read(TRAIN_OUTPUTS), val, val, background)
    try:
        detectors = build_detectors(params.detectors)
        found = left_out(stored, detectors, fit, Split.load(SPLIT), params, similar=True)
        settings = params.evaluate
        choice = choose(found, confidence=settings.confidence, seed=settings.seed, seen=seen)
        left_out_why, folds, reason = dict(found.left_out), found.num_folds, ""
    except InputError as error:
        left_out_why, folds, reason = {}, 0, str(error).rstrip(".")
        trusted = without_evidence(params.detectors.enabled, seen=seen)
        if trusted is None:
            raise InputError(
                f"plot.detector is auto, but no detector can be chosen: {reason}. Name one of "
                f"detectors.enabled: {', '.join(params.detectors.enabled)}."
            ) from None
        logger.warning("plot: %s judges, and known images have no say in it: %s", trusted.detector, reason)
        choice = trusted
    content = {
        **asdict(choice),
        "left_out": left_out_why,
        "folds": folds,
        "in_words": in_words(choice, reason=reason),
    }
    new(JUDGE).parent.mkdir(parents=True, exist_ok=True)
    write_json(new(JUDGE), "judge", content, present(*_MADE_FROM))
    return choice


def in_words(choice: Choice, *, reason: str = "") -> str:
    """The choice as one paragraph: from what, how sure, and what came next.

    Args:
        choice: what was chosen.
        reason: why none could be.
    """
    from osr.estimation.choice import TRUSTED

    if reason:
        return f"{choice.detector} judges, as nothing could be compared: {reason}."
    rest = [
        f"{entry.detector} {entry.auroc:.3f} [{entry.low:.3f}, {entry.high:.3f}]" for entry in choice.ranking
    ]
    text = (
        f"{choice.detector} judges, chosen from known images alone: {choice.classes} known classes played "
        "unknown ones, a few similar ones at a time, on validation images. That ranks detectors; how much is "
        f"rejected is measured or estimated apart, on test images. Mean AUROC so: {listed(rest, _SHOWN)}. "
    )
    others = [name for name in choice.alike if name != choice.detector]
    if others and choice.detector in choice.alike:
        text += (
            f"Beyond chance it is better than all but {listed(others)}: how much a detector varies from class"
            " to class counts, too. "
        )
    if choice.detector == TRUSTED and not choice.seen:
        text += f"{TRUSTED} is the default: only a detector that is better beyond chance takes its place. "
    text += f"With other classes of this kind it would come first {choice.sure:.0%} of the time (bootstrap)."
    if choice.seen:
        text += " The network was trained on the classes that were left out, so that the ranking may mislead"
        text += ": it has no say." if choice.detector == TRUSTED else "."
    return text


def regret(chosen: str, auroc: Mapping[str, float]) -> str:
    """The chosen detector's AUROC beside that of the best in hindsight.

    Args:
        chosen: its name.
        auroc: of each detector against the unknown test images.
    """
    best = max(auroc, key=lambda name: auroc[name])
    return (
        f"AUROC {auroc[chosen]:.3f}, the best in hindsight, {best}, {auroc[best]:.3f} (regret "
        f"{auroc[best] - auroc[chosen]:.3f})"
    )
