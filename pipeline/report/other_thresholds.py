"""What the report says of thresholds that accept more or fewer known images: what each would reject."""

from __future__ import annotations

from typing import Any

import numpy as np

from osr.metrics.thresholds import ACCEPTANCES, fit_threshold, rejection_name
from pipeline.report.run_files import RunFiles


def other_thresholds(run: RunFiles) -> list[dict[str, Any]]:
    """A row per share of validation knowns that is accepted, for the detector that judges new images.

    Empty where there is one threshold per class, or nothing is known of what is rejected.
    """
    if run.thresholds[run.detector].per_class is not None:
        return []
    if not (run.has_unknowns or run.estimated_classes):
        return []
    scores, known = run.scores[f"score_{run.detector}"], run.scores["label"] >= 0
    rows = []
    for share in ACCEPTANCES:
        theta = fit_threshold(run.val_scores[run.detector], target_acceptance=share).value
        if run.has_unknowns:
            rejected = float(np.mean(scores[~known] > theta))
        else:
            rejected = float(np.mean([row[rejection_name(share)] for row in run.estimated_classes]))
        accepted = float(np.mean(scores[known] <= theta))
        rows.append({"asked": share, "threshold": theta, "accepted": accepted, "rejected": rejected})
    return rows


def to_markdown(run: RunFiles) -> str:
    """The same as a table that says of how many images each share is; empty where there are no rows."""
    rows, known = other_thresholds(run), int((run.scores["label"] >= 0).sum())
    if not rows:
        return ""
    unknown = (
        f"{len(run.outputs) - known:,} test unknowns" if run.has_unknowns else "the unknowns, an estimate"
    )
    asked = f"to accept of {run.thresholds[run.detector].num_images:,} validation knowns"
    head = [
        asked,
        f"threshold of {run.detector}",
        f"accepted of {known:,} test knowns",
        f"rejected of {unknown}",
    ]
    forms = {"asked": ".0%", "threshold": ".4g", "accepted": ".1%", "rejected": ".1%"}
    cells = [[format(row[key], form) for key, form in forms.items()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---:"] * len(forms), *cells))
