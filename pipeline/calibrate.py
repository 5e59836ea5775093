"""Stage calibrate: run the network over the validation knowns and fit a calibration to them."""

from __future__ import annotations

from osr.calibration.calibrators import Temperature, fit_calibration
from osr.calibration.files import save_calibration
from osr.metrics.decisions import closed_set_metrics
from osr.metrics.groups import groups_of
from osr.params import Params
from osr.splits.split import Split
from pipeline.entry import Metrics, logger, run_stage
from pipeline.inference import extract_part
from pipeline.tracking.stage_run import Row
from pipeline.workspace.stages import CALIBRATOR, SPLIT, VAL_OUTPUTS
from pipeline.workspace.swap import new


def calibrate(params: Params, _row: Row) -> Metrics:
    """Write the validation outputs and the calibration; return its quality before and after."""
    outputs = extract_part("val", params, new(VAL_OUTPUTS))
    settings = params.calibrate
    fit = fit_calibration(
        outputs.logits,
        outputs.labels,
        method=settings.method,
        folds=settings.folds,
        groups=groups_of(Split.load(SPLIT), outputs),
    )
    if fit.not_used:
        logger.info("calibrate: %s is not used: %s.", fit.asked, fit.not_used)
    if fit.at_bound:
        logger.warning("calibrate: %s is used at its bound: %s.", fit.asked, fit.at_bound)
    save_calibration(new(CALIBRATOR), fit, outputs.made_from)
    quality = {
        when: closed_set_metrics(logits, outputs.labels, temperature=1.0)
        for when, logits in (("before", outputs.logits), ("after", fit.calibration.apply(outputs.logits)))
    }
    used = fit.calibration
    return {
        "calibration": {
            **({"temperature": used.temperature} if isinstance(used, Temperature) else {}),
            "val_nll_held_out": fit.nll_held_out,
            **{
                f"val_{name}_{when}": numbers[name]
                for name in ("nll", "ece", "brier")
                for when, numbers in quality.items()
            },
        }
    }


if __name__ == "__main__":
    run_stage("calibrate", calibrate, __doc__)
