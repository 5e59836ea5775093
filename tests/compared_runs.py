"""Runs as `osr compare` reads them, made up: one, five trials, the sections of their table."""

import math
from pathlib import Path

import numpy as np

from osr.params import flatten, load_params
from pipeline.comparing.summary import sections
from pipeline.tracking.results import DIGEST, Result

ROOT = Path(__file__).parents[1]
DEFAULTS = {key: str(value) for key, value in flatten(load_params(ROOT / "params.yaml")).items()}
NOISE = np.array([0.0, 0.01, -0.01, 0.02, -0.02])


def result(*, started=1, digest=None, metrics=None, **settings):
    """One run; `split__trial=1` sets a param, metrics are of detectors msp and energy unless given."""
    params = {**DEFAULTS, **{key.replace("__", "."): str(value) for key, value in settings.items()}}
    digest = (
        f"digest {params['dataset.name']} {params['split.trial']} {params['split.seed']}"
        if digest is None
        else digest
    )
    metrics = metrics or {"auroc/msp": 0.9, "auroc/energy": 0.8, "closed_set/accuracy": 0.95}
    return Result(f"run {started}", started, {**params, DIGEST: digest}, metrics)


def trials(base, *, offset=0.0, started=1, **settings):
    """Five trials: msp scatters around base, energy lies 0.1 below with other noise."""
    return [
        result(
            started=started + trial,
            split__trial=trial,
            metrics={
                "auroc/msp": base + NOISE[trial],
                "auroc/energy": base - 0.1 + NOISE[trial] + 0.001 * trial,
                "auoscr/msp": base,
                "ccr_at_fpr_0.001/msp": math.nan,
                "fpr_at_95tpr_known/msp": 0.3 + NOISE[trial],
                "fpr_at_95tpr_known/energy": 0.3 - NOISE[trial],
                "closed_set/accuracy": base + offset,
            },
            **settings,
        )
        for trial in range(5)
    ]


def table(results, *metrics, **options):
    return sections(results, metrics or ("auroc",), **({"confidence": 0.95, "significance": 0.05} | options))


def cells(section, metric="auroc"):
    return {line.method: line.cells[metric] for line in section.lines}
