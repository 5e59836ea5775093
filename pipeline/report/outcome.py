"""What a run came to, in a few lines for the terminal."""

from __future__ import annotations

from typing import Any

from osr.params import load_params
from pipeline.report.judge import regret
from pipeline.report.run_files import RunFiles
from pipeline.report.verdicts import unfit
from pipeline.workspace.stages import PARAMS, REPORT

METRICS = {"auroc": "AUROC", "auoscr": "AUOSCR"}

Line = tuple[str, str, str]


def outcome() -> str:
    """Accuracy, the headline metrics of `plot.detector`, its threshold and what that does, and the report.

    What speaks against using the classifier comes before the report.

    Raises:
        InputError: a file of the run is missing.
    """
    run = RunFiles(load_params(PARAMS))
    known = int((run.outputs.labels >= 0).sum())
    rows = [("accuracy", _with_ends(run.metrics["closed_set"], "accuracy"), f"{known:,} known test images")]
    rows += _tested(run, known) if run.has_unknowns else _estimated(run)
    if run.choice:
        told = "chosen from known images alone"
        if run.has_unknowns:
            told += f"; against the unknown ones it has {regret(run.detector, run.metrics['auroc'])}"
        rows.append(("judge", run.detector, told))
    lines = [f"  {label:<9}  {value:<22}  {told}" for label, value, told in rows]
    doubts = unfit(run.metrics, run.detector, num_contradictions=len(run.split.contradictions))
    lines += [f"  warning    {told}" for told in doubts]
    return "\n".join(["", *lines, f"  report     {REPORT}", ""])


def _tested(run: RunFiles, known: int) -> list[Line]:
    """What the unknown test images show."""
    name = run.detector
    unknown = f"against {len(run.outputs) - known:,} unknown ones"
    own = _of(run.metrics, name)
    return [
        *((label, _with_ends(own, metric), f"{name}, {unknown}") for metric, label in METRICS.items()),
        *_accepted(run, own),
        ("rejected", _with_ends(own, "unknown_rejection", percent=True), "of the unknown ones"),
    ]


def _estimated(run: RunFiles) -> list[Line]:
    """What there is without unknown images; rejection is an estimate, or a reason for none."""
    own = _of(run.metrics, run.detector)
    rows = _accepted(run, own)
    if own["selective_accuracy"] is not None:
        rows.append(("right", f"{own['selective_accuracy']:.1%}", "of these: the class is the right one"))
    if not run.estimated_classes:
        told = f"no unknown image was tested, and {run.why_no_estimate}"
        return [*rows, ("rejected", "no estimate", told)]
    told = "of the unknowns: an estimate, from known classes left out in turn"
    if run.params.learns_features:
        told += ", which the network has seen: it may be far off"
    guess = _of(run.estimate, run.detector)
    return [*rows, ("rejected", _with_ends(guess, "unknown_rejection", percent=True), told)]


def _accepted(run: RunFiles, own: dict[str, Any]) -> list[Line]:
    """What the threshold accepts, and what it was made to accept: of other images, those of validation."""
    told = f"of the known test images by {run.detector}, threshold {run.threshold_in_words()}"
    rows = [("accepted", _with_ends(own, "known_acceptance", percent=True), told)]
    if (asked := run.asked(run.detector)) is not None:
        rows.append(
            ("aim", f"{asked[0]} accepted", f"of the {asked[1]} for validation, which set the threshold")
        )
    return rows


def _of(metrics: dict[str, Any], detector: str) -> dict[str, Any]:
    """The metrics of one detector."""
    return {
        key: values[detector]
        for key, values in metrics.items()
        if isinstance(values, dict) and detector in values
    }


def _with_ends(values: dict[str, float], metric: str, *, percent: bool = False) -> str:
    value, low, high = (values[f"{metric}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.1%} [{low:.1%}, {high:.1%}]" if percent else f"{value:.3f} [{low:.3f}, {high:.3f}]"
