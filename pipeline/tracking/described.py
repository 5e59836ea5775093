"""What a row says in words: its name, its description, and the data set in MLflow's column of these."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from pipeline.workspace.files import read_json
from pipeline.workspace.naming import OWN_DATA, data_set_name
from pipeline.workspace.stages import REPORT, STAGES

NOTE = "mlflow.note.content"
_OF_MLFLOW = re.compile(r"[a-z]+-[a-z]+-\d+")  # the names that MLflow makes up
_DIGEST_LENGTH = 36  # that MLflow keeps
# The headline of `plot.detector` under short names, which MLflow lists first: capitals come before the rest.
SHORT_NAMES = {
    "headline/accuracy": "Accuracy",
    "headline/auroc": "AUROC",
    "headline/auoscr": "AUOSCR",
    "headline/known_acceptance": "Accepted",
    "headline/unknown_rejection": "Rejected",
    "headline/estimate_auroc": "AUROC_estimate",
    "headline/estimate_unknown_rejection": "Rejected_estimate",
    "headline/selective_accuracy": "Accuracy_of_accepted",
    "headline/fpr_at_95tpr_known": "FPR95",
    "headline/ece_after": "ECE",
}
_SHARES = {
    "known_acceptance": "accepts {} of the knowns",
    "unknown_rejection": "rejects {} of the unknowns",
    "estimate_unknown_rejection": "rejects {} of the unknowns by an estimate",
}


def row_name(params: Mapping[str, Any], experiment: str = "") -> str:
    """What ran: data, classes, network and how it learned; behind it the name of the DVC experiment.

    Args:
        params: flattened.
        experiment: may be empty.
    """
    if "dataset.name" not in params:
        return experiment
    name = ", ".join([_data(params, ""), str(params["model.backbone.name"]), _short_training(params)])
    return f"{name} ({experiment})" if experiment else name


def is_made_up(name: str) -> bool:
    """Whether a name is one of those that MLflow gives rows without a name."""
    return _OF_MLFLOW.fullmatch(name) is not None


def description(params: Mapping[str, Any], held: Container[str]) -> str:
    """Markdown: data, network, and numbers of the stages whose results the row holds; empty without settings.

    Args:
        params: flattened; the values may be texts.
        held: names of these stages, whose files stand in the working directory.
    """
    if "dataset.name" not in params:
        return ""
    weights = str(params["model.backbone.weights"])
    begun = "" if weights == "none" else f", weights {Path(weights).name}"
    lines = [
        f"**{_data(params, 'protocol ')}**{_classes() if 'prepare-split' in held else ''}",
        f"{params['model.backbone.name']}{begun}; {_long_training(params)}",
    ]
    if "plot" in held and (headline := _metrics("plot").get("headline")):
        chosen = _metrics("plot").get("judge", {}).get("chosen")
        judge = (
            f"{next(iter(chosen))}, chosen from known images alone," if chosen else params["plot.detector"]
        )
        lines.append(f"{judge} {_numbers(headline)}")
        lines.append(f"Warnings first, then everything else: {REPORT}")
    return "\n\n".join(lines)


def data_set(params: Mapping[str, Any], digest: str) -> dict[str, str]:
    """The fields of an `mlflow.entities.Dataset`; none without settings.

    Args:
        params: flattened.
        digest: of the split: classes, parts and pixels.
    """
    if "dataset.name" not in params:
        return {}
    held, name = str(params["dataset.name"]), data_set_name(params)
    place = Path(str(params["dataset.root"]))
    if held in OWN_DATA:
        place /= str(params[OWN_DATA[held]])
    numbers = _metrics("prepare-split")
    return {
        "name": name,
        "digest": digest[:_DIGEST_LENGTH],
        "source_type": "local",
        "source": json.dumps({"uri": str(place.resolve())}),
        "profile": json.dumps({key: numbers.get(key, {}) for key in ("images", "classes")}),
    }


def _data(params: Mapping[str, Any], word: str) -> str:
    protocol = str(params["split.protocol"])
    trial = "" if protocol == "explicit" else f" {word}{protocol} {params['split.trial']}"
    return f"{data_set_name(params)}{trial}"


def _classes() -> str:
    found = _metrics("prepare-split")
    if "classes" not in found:
        return ""
    classes, images = found["classes"], found["images"]
    return (
        f": {classes['known']} known and {classes['unknown']} unknown classes; {images['train']:,} images to "
        f"train, {images['val']:,} to validate, {images['test']:,} to test"
    )


def _short_training(params: Mapping[str, Any]) -> str:
    regime, seed = str(params["train.regime"]), str(params["train.seed"])
    if regime in ("none", "probe"):
        return "as given" if regime == "none" else "probe"
    how = str(params["train.loss"]) if regime == "tune" else f"{regime} {params['train.loss']}"
    return how if seed == "0" else f"{how} seed {seed}"


def _long_training(params: Mapping[str, Any]) -> str:
    regime = str(params["train.regime"])
    if regime == "none":
        return "not trained here"
    if regime == "probe":
        return "frozen, a logistic regression on its features"
    return (
        f"{regime}, loss {params['train.loss']}, {params['train.optimizer']} at {params['train.lr']}, "
        f"at most {params['train.epochs']} epochs, seed {params['train.seed']}"
    )


def _numbers(headline: Mapping[str, float | None]) -> str:
    shares = [
        told.format(f"{value:.1%}")
        for key, told in _SHARES.items()
        if (value := headline.get(key)) is not None
    ]
    found = [f"accuracy {headline['accuracy']:.3f}"] if headline.get("accuracy") is not None else []
    if headline.get("auroc") is not None:
        found.append(f"AUROC {headline['auroc']:.3f}")
    return ", ".join([*shares, *found])


def _metrics(stage: str) -> dict[str, Any]:
    """The numbers of a stage in the working directory."""
    return read_json(STAGES[stage].metrics)
