"""Stage calibrate: run the network over the validation knowns and fit the temperature to them."""

from __future__ import annotations

from dataclasses import asdict

from osr.calibration import fit_temperature
from osr.config import Params
from osr.metrics import closed_set_metrics
from pipeline.entry import Metrics, logger, run_stage, write_json
from pipeline.inference import extract_part
from pipeline.stages import TEMPERATURE, VAL_OUTPUTS
from pipeline.tracking import Row


def calibrate(params: Params, _row: Row) -> Metrics:
    """Write the validation outputs and the temperature; return calibration before and after."""
    outputs = extract_part("val", params)
    outputs.save(VAL_OUTPUTS)
    settings = params.calibrate
    fit = fit_temperature(
        outputs.logits,
        outputs.labels,
        min_temperature=settings.min_temperature,
        max_temperature=settings.max_temperature,
    )
    if fit.at_bound:
        logger.warning(
            "calibrate: the temperature %.4g is an end of its bracket; the validation images ask for more "
            "(perfectly separated ones always do)",
            fit.temperature,
        )
    write_json(TEMPERATURE, {**asdict(fit), "num_images": len(outputs)})
    quality = {
        when: closed_set_metrics(
            outputs.logits, outputs.labels, temperature=temperature, bins=params.calibrate.ece_bins
        )
        for when, temperature in (("before", 1.0), ("after", fit.temperature))
    }
    return {
        "calibration": {
            "temperature": fit.temperature,
            **{f"val_{name}_{when}": quality[when][name] for name in ("nll", "ece") for when in quality},
        }
    }


if __name__ == "__main__":
    run_stage("calibrate", calibrate, __doc__)
