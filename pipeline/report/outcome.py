"""What a run came to, in a few lines for the terminal."""

from __future__ import annotations

from osr.params import load_params
from pipeline.report.run_files import RunFiles
from pipeline.workspace.stages import PARAMS, REPORT

METRICS = {"auroc": "AUROC", "auoscr": "AUOSCR"}


def outcome() -> str:
    """Accuracy, the headline metrics of `plot.detector`, its threshold and what that does, and the report.

    Raises:
        InputError: a file of the run is missing.
    """
    run = RunFiles(load_params(PARAMS))
    metrics, closed, name = run.metrics, run.metrics["closed_set"], run.detector
    known = int((run.outputs.labels >= 0).sum())
    rows = [("accuracy", _with_ends(closed, "accuracy"), f"{known:,} known test images")]
    unknown = f"against {len(run.outputs) - known:,} unknown ones"
    rows += [
        (
            label,
            _with_ends({key: values[name] for key, values in metrics.items() if name in values}, metric),
            f"{name}, {unknown}",
        )
        for metric, label in METRICS.items()
    ]
    accepted, rejected = (metrics[key][name] for key in ("known_acceptance", "unknown_rejection"))
    verdict = f"accepts {accepted:.1%} of the knowns, rejects {rejected:.1%} of the unknowns"
    rows.append(("threshold", f"{run.threshold:.4g}", verdict))
    lines = [f"  {label:<9}  {value:<20}  {told}" for label, value, told in rows]
    return "\n".join(["", *lines, f"  report     {REPORT}", ""])


def _with_ends(values: dict[str, float], metric: str) -> str:
    return f"{values[metric]:.3f} [{values[f'{metric}_low']:.3f}, {values[f'{metric}_high']:.3f}]"
