"""Command monitor: whether rejections can still be those of known images, however often one looks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision
from osr.metrics.conformal import conformal_p_values, theta_at
from osr.metrics.monitoring import Monitor
from osr.settings.base import Count, Section
from osr.stored.files import checked, damaged, file_digest, read_json, write_json
from osr.stored.makers import STATE, made_by
from osr.stored.origin import Origin, check_origin
from pipeline.serving.counted import Counted
from pipeline.serving.load import held_out_of, load_folder
from pipeline.serving.verdict_reader import read_verdicts

ALARM_STATUS = 3


class State(Section):
    """What stands in the file --state between calls; see `osr.metrics.monitoring.Monitor`."""

    detector: str
    num_calibration: Count
    false_alarm: FiniteFloat
    num_images: int
    num_rejected: int
    log_stakes: tuple[FiniteFloat, ...]  # what they have become, level by level; () before the first image
    log_evidence: FiniteFloat
    alarm: int | None
    files: dict[str, str]  # digest -> name, of the verdicts that were seen
    images: str  # see `pipeline.serving.counted`


def run(options: argparse.Namespace) -> int:
    """Go on with new verdicts; the status is 3 when there is, or was, an alarm.

    Raises:
        InputError: verdicts that cannot be read, were seen before or are of another classifier or detector; a
            classifier whose images stand in groups.
    """
    classifier = load_folder(options.model, allow_code=options.allow_code)
    detector = options.detector or classifier.detector
    classifier.check(Decision(detector))
    if classifier.groups is not None:
        raise InputError(
            f"{options.model} counts images of a group as one; the images of a stream say no groups, so their"
            " p-values cannot be monitored."
        )
    known, made_from = classifier.scores[detector], _origin(classifier)
    threshold = classifier.threshold(Decision(detector))  # what is promised is promised of the fitted one
    with made_by(STATE):
        state = _read_state(options.state, made_from, detector, len(known), options.false_alarm)
    monitor = Monitor(
        len(known),
        state.false_alarm,
        state.num_images,
        np.reshape(state.log_stakes, Monitor(len(known)).log_wealth.shape if state.log_stakes else (0, 0)),
        state.log_evidence,
        state.alarm,
    )
    counted = Counted(state.images)
    files, paths, num_rejected = dict(state.files), list[NDArray[np.float64]](), state.num_rejected
    for file in options.verdicts:
        digest = _new_digest(file, files)
        read = read_verdicts(file, classifier, (detector,))
        if not read.rows:
            raise InputError(f"{file} holds no judged image: leave it out.")
        counted.add(file, read.rows, read.files, read.scores)
        paths.append(monitor.update(conformal_p_values(known, read.scores)))
        num_rejected += int(np.count_nonzero(read.scores > theta_at(threshold, read.nearest)))
        files[digest] = str(file)
    new = State(
        detector=detector,
        num_calibration=len(known),
        false_alarm=monitor.false_alarm,
        num_images=monitor.num_images,
        num_rejected=num_rejected,
        log_stakes=tuple(monitor.log_wealth.ravel().tolist()),
        log_evidence=monitor.log_evidence,
        alarm=monitor.alarm,
        files=files,
        images=counted.text,
    )
    if options.plot is not None:
        from osr.plots.evidence import evidence

        evidence(np.concatenate(paths), monitor.limit, options.plot, first=state.num_images + 1)
    if options.state is not None:  # last: what stands there was counted, and is not counted again
        write_json(options.state, "monitor", new.model_dump(mode="json"), made_from)
    share = classifier.expected_rejection(Decision(detector))
    promised = f"{share:.1%}, judging by {held_out_of(classifier, detector)[1]}"
    sys.stdout.write(_as_json(monitor, new) if options.format == "json" else _as_text(monitor, new, promised))
    return 0 if monitor.alarm is None else ALARM_STATUS


def _origin(classifier: OpenSetClassifier) -> Origin:
    parts = classifier.parts
    return parts.model.origin.model_copy(update={"thresholds": parts.thresholds.digest})


def _read_state(
    path: Path | None, made_from: Origin, detector: str, num_calibration: int, false_alarm: float
) -> State:
    """What earlier calls left; a new one where there is none."""
    if path is None or not path.exists():
        return State(
            detector=detector,
            num_calibration=num_calibration,
            false_alarm=false_alarm,
            num_images=0,
            num_rejected=0,
            log_stakes=(),
            log_evidence=0.0,
            alarm=None,
            files={},
            images="",
        )
    stored = read_json(path, "monitor")
    check_origin(path, stored.made_from, made_from, beside=Path("--model"))
    state = checked(path, State, stored.content)
    for name, asked in (
        ("detector", detector),
        ("false_alarm", false_alarm),
        ("num_calibration", num_calibration),
    ):
        if (found := getattr(state, name)) != asked:
            raise InputError(f"{path} goes on with {name} {found}, not {asked}: begin another file for that.")
    fresh = Monitor(num_calibration, false_alarm)
    if len(state.log_stakes) != fresh.log_wealth.size:
        raise damaged(path, "log_stakes has another length")
    try:
        Counted(state.images)
    except ValueError:
        raise damaged(path, "images is none of its lists") from None
    return state


def _new_digest(file: Path, seen: dict[str, str]) -> str:
    if (digest := file_digest(file)) in seen:
        raise InputError(
            f"{file} was counted before, as {seen[digest]}: no image may count twice. Judge new images into "
            "a file of their own, or leave --state away to look at this one alone."
        )
    return digest


def _as_json(monitor: Monitor, state: State) -> str:
    content = {
        "images": state.num_images,
        "rejected": state.num_rejected,
        "evidence": monitor.evidence,
        "limit": monitor.limit,
        "alarm": state.alarm,
    }
    return json.dumps(content) + "\n"


def _as_text(monitor: Monitor, state: State, promised: str) -> str:
    share = state.num_rejected / state.num_images if state.num_images else 0.0
    seen = f"{state.num_images:,} images, {share:.1%} rejected where known images would be {promised}."
    if state.alarm is not None:
        verdict = (
            f"ALARM since image {state.alarm:,}: these are not only images of the known classes as they were"
            f" when the threshold was made (evidence {monitor.evidence:.3g} now, limit {monitor.limit:g})."
        )
    else:
        verdict = f"No alarm: evidence {monitor.evidence:.3g} of {monitor.limit:g}."
    return f"{seen}\n{verdict}\n"
