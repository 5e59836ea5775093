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
    # At an end of the bracket the images do not determine a temperature: perfectly separated ones ask for 0.
    temperature = 1.0 if fit.at_bound else fit.temperature
    if fit.at_bound:
        logger.warning(
            "calibrate: the NLL of the %d validation images still falls at temperature %.4g, the end of the "
            "bracket (perfectly separated images do that); no temperature is fitted, it stays 1.",
            len(outputs),
            fit.temperature,
        )
    write_json(TEMPERATURE, {"temperature": temperature, "num_images": len(outputs), "search": asdict(fit)})
    quality = {
        when: closed_set_metrics(
            outputs.logits, outputs.labels, temperature=t, bins=params.calibrate.ece_bins
        )
        for when, t in (("before", 1.0), ("after", temperature))
    }
    return {
        "calibration": {
            "temperature": temperature,
            **{f"val_{name}_{when}": quality[when][name] for name in ("nll", "ece") for when in quality},
        }
    }


if __name__ == "__main__":
    run_stage("calibrate", calibrate, __doc__)
