"""Register the classifier of the present run as a model in MLflow.

osr register digits --alias champion
mlflow models serve -m models:/digits@champion --env-manager local --host 127.0.0.1 --port 5001

To register the run of another row, bring its files back first, as its tag `osr.restore` says.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import osr
from osr.errors import InputError
from osr.inference.parts import own_code
from osr.metrics.conformal import Theta
from osr.params import Params, flatten, load_params
from pipeline.report.judge import judge_of
from pipeline.serving.export import export
from pipeline.tracking.mirror import CHECKPOINT
from pipeline.tracking.results import COMMIT, DIGEST, SPLIT_DIGEST
from pipeline.tracking.rows import find_for_sync
from pipeline.tracking.stage_run import is_off
from pipeline.tracking.store import FINISHED_STATES, STAGE, Store, connect
from pipeline.tracking.sync import sync
from pipeline.workspace.own_files import source_in_project
from pipeline.workspace.place import workspace_root
from pipeline.workspace.stages import PARAMS

logger = logging.getLogger("osr.register")

FOLDER = "classifier"
LINEAGE = (
    SPLIT_DIGEST,
    DIGEST,
    COMMIT,
    CHECKPOINT,
    "osr.git.dirty",
    "osr.dvc.lock",
    "osr.experiment",
    "osr.restore",
)
# What a classifier needs to be loaded and asked, and MLflow, which serves it; these bring the rest.
INFERENCE = (
    "mlflow",
    "numpy",
    "pillow",
    "pydantic",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "torchvision",
    "tqdm",
)
_NEEDED = ("train", "calibrate", "fit-openmax")


def register(name: str, params: Params, *, alias: str | None = None, detector: str | None = None) -> str:
    """Store the present run's classifier in its MLflow row, and register it; return its version.

    Args:
        name: of the registered model, which is created when it is missing.
        params: the whole of params.yaml.
        alias: points to this version from now on, as in `models:/digits@champion`.
        detector: one of detectors.enabled; None means plot.detector.

    Raises:
        InputError: MLflow takes no such alias, a file of the run is missing, or no row holds the run.
    """
    if alias is not None:
        check_alias(alias)
    used = judge_of(params, detector)
    with tempfile.TemporaryDirectory() as folder:
        path, classifier = Path(folder) / "model", Path(folder) / "classifier"
        parts = export(classifier, params, detector=used)
        threshold, channels = parts.detectors[used][1].theta, parts.model.image_format.channels
        store, row = _row_of_present_run(params)
        source = f"{FOLDER}/{used}"
        save_model(path, classifier, own_code(parts), threshold=threshold, channels=channels)
        store.client.log_artifacts(row.info.run_id, str(path), source)
    lineage = {key: row.data.tags[key] for key in LINEAGE if key in row.data.tags}
    version = _new_version(
        store,
        name,
        row.info.run_id,
        source,
        {**lineage, "osr.detector": used, "osr.threshold": repr(threshold)},
    )
    if alias is not None:
        store.client.set_registered_model_alias(name, alias, version)
    return version


def check_alias(alias: str) -> None:
    """Refuse what MLflow refuses as an alias, but before a version is made that would then lack it.

    Raises:
        InputError: the alias is no name, or one that MLflow keeps for itself.
    """
    if not re.fullmatch(r"[\w-]{1,255}", alias):
        raise InputError(f"--alias {alias!r} must be 1 to 255 letters, digits, _ and -.")
    if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise InputError(f"--alias {alias!r} must not be 'latest' or v and a number: they name versions.")


def _row_of_present_run(params: Params) -> tuple[Store, Any]:
    if is_off() or not sync():
        raise InputError("A model can be registered only where its run is a row in MLflow, and it is not.")
    store = connect(workspace_root())
    row = find_for_sync(store, flatten(params), present=_NEEDED)
    if row is None or any(row.data.tags.get(STAGE + name) not in FINISHED_STATES for name in _NEEDED):
        raise InputError("No row in MLflow holds the present run: `osr run` comes first.")
    return store, row


def save_model(
    path: Path, classifier: Path, own: tuple[str, ...], *, threshold: Theta, channels: int
) -> None:
    """Write the model as MLflow wants it: the exported folder, code, requirements, input and output."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, Schema
    from mlflow.types.schema import Map

    texts = [ColSpec("string", "label"), ColSpec("string", "nearest")]
    numbers = [ColSpec("double", "score"), ColSpec(Map("double"), "probabilities")]
    with warnings.catch_warnings(action="ignore"):  # MLflow cannot infer a signature; this one is given
        pyfunc.save_model(
            path,
            python_model=str(Path(__file__).with_name("served_model.py")),
            code_paths=_code(own),
            artifacts={"classifier": str(classifier)},
            # Without a schema of the input: MLflow casts to it, which cuts 0.9 to 0; the model checks itself.
            signature=ModelSignature(
                outputs=Schema([*texts, *numbers]),
                params=ParamSchema([_param(threshold)]),
            ),
            metadata={
                "inputs": f"files of N images, in base64 or a table's column of bytes or base64; or images "
                f"(N, H, W, {channels}) of integers in 0..255"
            },
            model_config={"allow_code": list(own)} if own else None,
            pip_requirements=[f"{name}=={version(name)}" for name in INFERENCE],
        )


def _param(threshold: Theta) -> Any:
    """The parameter `threshold` of a request: a number, or a list where it is one for each class."""
    from mlflow.types import ParamSpec

    if isinstance(threshold, tuple):
        return ParamSpec("threshold", "double", list(threshold), shape=(-1,))
    return ParamSpec("threshold", "double", threshold)


def _code(own: tuple[str, ...]) -> list[str]:
    """The package osr, and what in this folder the network and detectors of the user's stand in."""
    packages = dict[str, None]()
    for name in own:
        if (source := source_in_project(name)) is not None:
            packages[source.parts[0]] = None
        else:
            logger.warning("%s does not stand in this folder: install it where the model is loaded", name)
    return [str(Path(osr.__file__).parent), *packages]


def _new_version(store: Store, name: str, run_id: str, source: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise InputError(f"The model {name!r} cannot be registered: {error}") from error
    uri = f"runs:/{run_id}/{source}"
    return str(store.client.create_model_version(name, uri, run_id=run_id, tags=tags).version)


def run(options: argparse.Namespace) -> int:
    """Command register.

    Raises:
        InputError: see `register`.
    """
    logging.getLogger("osr.tracking").setLevel(logging.WARNING)
    version = register(options.name, load_params(PARAMS), alias=options.alias, detector=options.detector)
    uri = f"models:/{options.name}@{options.alias}" if options.alias else f"models:/{options.name}/{version}"
    sys.stdout.write(f"{options.name}, version {version}: {uri}\n")
    return 0
