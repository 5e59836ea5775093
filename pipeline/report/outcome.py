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
            told += f"; {regret(run.detector, run.metrics['auroc'])}"
        rows.append(("judge", run.detector, told))
    lines = [f"  {label:<9}  {value:<20}  {told}" for label, value, told in rows]
    lines += [f"  warning    {told}" for told in unfit(run.metrics, run.detector)]
    return "\n".join(["", *lines, f"  report     {REPORT}", ""])


def _tested(run: RunFiles, known: int) -> list[Line]:
    """What the unknown test images show."""
    name = run.detector
    unknown = f"against {len(run.outputs) - known:,} unknown ones"
    rows = [
        (label, _with_ends(_of(run.metrics, name), metric), f"{name}, {unknown}")
        for metric, label in METRICS.items()
    ]
    accepted, rejected = (run.metrics[key][name] for key in ("known_acceptance", "unknown_rejection"))
    verdict = f"accepts {accepted:.1%} of the test knowns, rejects {rejected:.1%} of the test unknowns"
    return [*rows, ("threshold", run.threshold_in_words(), verdict), *_asked(run)]


def _estimated(run: RunFiles) -> list[Line]:
    """What there is without unknown images; rejection is an estimate, or a reason for none."""
    own = _of(run.metrics, run.detector)
    verdict = f"accepts {own['known_acceptance']:.1%} of the test knowns"
    if own["selective_accuracy"] is not None:
        verdict += f", {own['selective_accuracy']:.1%} of these with the right class"
    rows = [("threshold", run.threshold_in_words(), f"{run.detector} {verdict}"), *_asked(run)]
    if not run.estimated_classes:
        return [
            *rows,
            ("rejection", "no estimate", f"no unknown image was tested, and {run.why_no_estimate}"),
        ]
    guess = _of(run.estimate, run.detector)
    told = "of the unknowns: an estimate, from known classes left out in turn"
    if run.params.learns_features:
        told += ", which the network has seen: it may be far off"
    return [*rows, ("rejection", f"{guess['unknown_rejection']:.1%}", told)]


def _asked(run: RunFiles) -> list[Line]:
    """What the threshold was to accept, and of which images: others than the test images above."""
    if (asked := run.asked(run.detector)) is None:
        return []
    return [("asked", asked[0], f"of {asked[1]} held out for validation, which set the threshold")]


def _of(metrics: dict[str, Any], detector: str) -> dict[str, Any]:
    """The metrics of one detector."""
    return {
        key: values[detector]
        for key, values in metrics.items()
        if isinstance(values, dict) and detector in values
    }


def _with_ends(values: dict[str, float], metric: str) -> str:
    return f"{values[metric]:.3f} [{values[f'{metric}_low']:.3f}, {values[f'{metric}_high']:.3f}]"
