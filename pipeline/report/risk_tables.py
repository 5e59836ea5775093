"""What the page says of expected costs, and of known images under corruptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.run_files import RunFiles

ENDS = ("", "_low", "_high")


def costs_table(run: RunFiles) -> dict[str, Any]:
    """Expected costs by detector, and what they were asked for; empty where there are none."""
    found: Mapping[str, Any] = run.metrics.get("costs", {})
    if not found:
        return {}
    names = ("expected_cost", "expected_cost_at_cost_threshold") if run.has_unknowns else ()
    settings = run.params.evaluate
    return {
        "rows": [
            {
                "name": name,
                "intervals": [tuple(found[f"{metric}{end}"][name] for end in ENDS) for metric in names],
                "threshold": found["cost_threshold"][name],
                "assumed": found["assumed_expected_cost"][name],
                "oracle": found["oracle_expected_cost"][name] if run.has_unknowns else None,
            }
            for name in run.params.detectors.enabled
        ],
        "asked": {key.replace("_", " "): value for key, value in settings.costs.model_dump().items()},
        "prevalence": found["prevalence"],
        "assumed_auroc": found["assumed_auroc"],
        "accepting": found.get("expected_cost_accepting_all"),
        "rejecting": found.get("expected_cost_rejecting_all"),
    }


def shifts_table(run: RunFiles) -> dict[str, Any]:
    """Rows of corrupted known images, the images as they are, and the unknown sets; empty without any."""
    if not run.shifts:
        return {}
    closed_set, name = run.metrics["closed_set"], run.detector
    clean = {
        "accuracy": tuple(closed_set[f"accuracy{end}"] for end in ENDS),
        "accepted": (run.metrics["known_acceptance"][name], *run.ends_of_acceptance(name)),
        "auroc": run.metrics["auroc"][name] if run.has_unknowns else None,
    }
    return {
        "clean": clean,
        "rows": run.shifts,
        "unknown": run.unknown_accepted if run.has_unknowns else {},
        "full_spectrum": run.metrics["shifts"].get("full_spectrum", {}).get("auroc", {}),
    }
