"""Outputs on which our detectors and pytorch-ood's are compared, and the scores of both."""

from pathlib import Path

import numpy as np

from benchmarks.peer_pytorch_ood import PEERS
from osr.detectors.registry import build_detectors
from osr.outputs import Outputs
from osr.params import load_params

ROOT = Path(__file__).parents[1]
CLASSES, WIDTH, COUNT = 6, 16, 1200


def settings_with(**sections):
    """The settings of params.yaml with these values; NNGuide's bank is the whole training set, as theirs."""
    settings = load_params(ROOT / "params.yaml").detectors
    changed = {"nnguide": {"bank_fraction": 1.0}, **sections}
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in changed.items()}
    )


def made(features, labels, weight, bias) -> Outputs:
    """Outputs of a linear head."""
    arrays = [np.asarray(array, dtype=np.float32) for array in (features, weight, bias)]
    logits = arrays[0] @ arrays[1].T + arrays[2]
    return Outputs(
        logits, arrays[0], np.asarray(labels, np.int64), np.arange(len(logits)), arrays[1], arrays[2]
    )


def drawn(seed, count, *, sharpness=0.5) -> Outputs:
    """Positive features around one centre per class, and the logits of a head that knows the centres."""
    centres = 2 * np.abs(np.random.default_rng(7).normal(size=(CLASSES, WIDTH)))
    weight = sharpness * centres
    labels = np.arange(count) % CLASSES
    features = np.abs(np.random.default_rng(seed).normal(size=(count, WIDTH))) + centres[labels]
    return made(features, labels, weight, -0.8 * weight.sum(1) - 0.5 * sharpness * np.square(centres).sum(1))


TRAIN, TEST = drawn(1, COUNT), drawn(2, 200)
MILD_TRAIN, MILD_TEST = drawn(1, COUNT, sharpness=0.05), drawn(2, 200, sharpness=0.05)


def scores(name, settings, train, test):
    """Ours and theirs."""
    (ours,) = build_detectors(settings.model_copy(update={"enabled": (name,)})).values()
    with np.errstate(all="ignore"):
        theirs = PEERS[name](train, settings)(test)
    return ours.fit(train).score(test), theirs.astype(np.float64)


# Ours is factor x theirs + offset.
EQUAL = {
    "msp": (1, 1, {}),
    "maxlogit": (1, 0, {}),
    "energy": (1, 0, {}),
    "entropy": (1, 0, {}),
    "gen": (CLASSES, 0, {}),
    "gradnorm": (CLASSES, 0, {}),
    "mahalanobis": (2 * COUNT, 0, {"mahalanobis": {"ridge": 1e-9}}),
    "rmds": (COUNT, 0, {"rmds": {"ridge": 1e-9}}),
    "knn": (1, 0, {}),
    "nnguide": (1, 0, {}),
    "vim": (1, 0, {}),
    "klm": (1, 0, {}),
    "she": (1, 0, {}),
    "react": (1, 0, {}),
    "scale": (1, 0, {}),
    "dice": (1, 0, {}),
    "fdbd": (1, 0, {}),
    "nci": (1, 0, {"nci": {"alpha": 0.01}}),
}
OPENMAX = {"tail_size": 20, "alpha": 10, "correct_only": False}
