"""Command fit: detectors, thresholds and a report for a classifier that somebody trained."""

from __future__ import annotations

import argparse
from typing import Any

from osr.errors import InputError
from osr.settings.own_code import is_custom
from pipeline.experiments.launch import alone, dvc_command, launch, write_experiment
from pipeline.experiments.overrides import overridden
from pipeline.starting.settings import dataset_of, weights_setting
from pipeline.workspace.own_files import check_params_of_stages
from pipeline.workspace.repository import check_repository

DETECTORS = ("msp", "maxlogit", "energy", "mahalanobis")  # for features of any sign and classes of any size


def run(options: argparse.Namespace) -> int:
    """Run the pipeline in regime none; the status is DVC's.

    Raises:
        InputError: no such data or weights, settings that do not go together, or a run is at work here.
    """
    with alone():
        settings = overridden(options.settings, settings_of(options))
        check_repository()
        check_params_of_stages()
        write_experiment(settings)
        return launch(dvc_command(is_experiment=True), completes_row=False)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says, nested like params.yaml.

    All classes of the data are known, in the order of their names, until `-S split.…` says otherwise.

    Raises:
        InputError: no such data or weights.
    """
    data = options.data.resolve()
    if not data.exists():
        raise InputError(f"{options.data} does not exist; name a folder of class folders, a .csv or a .npz.")
    weights = weights_setting(options.weights)
    own = {"classifier": "auto"} if is_custom(options.model) else {}
    return {
        "dataset": dataset_of(data, data.parent),
        "split": {"protocol": "explicit"},
        "model": {
            "backbone": {"name": options.model, "weights": weights, **own},
            "head": {"name": "linear", "bias": True},
            "neck": {"name": "identity"},
        },
        "train": {"regime": "none"},
        "detectors": {"enabled": list(DETECTORS)},
    }
