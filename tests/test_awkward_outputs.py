"""Every detector, as params.yaml sets it, on outputs of few images or features, or of features of no use."""

import numpy as np
import pytest
from test_detectors import settings

from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
from osr.metrics.open_set import open_set_metrics
from osr.outputs import Outputs


def awkward(*, count, classes, width, change=lambda features: features, half=False):
    """Training images, known and unknown test images: ReLU features around centres far apart."""
    rng = np.random.default_rng(0)
    centres, others = (3 * np.abs(rng.normal(size=(number, width))) for number in (classes, 5))
    weight = 0.1 * rng.normal(size=(classes, width)) + (centres - centres.mean(0)) / max(width, 1) ** 0.5

    def outputs(places, labels):
        features = change(np.maximum(places + rng.normal(size=places.shape), 0))
        features = (features.astype(np.float16) if half else features).astype(np.float32)
        logits = features @ weight.astype(np.float32).T
        column = np.linspace(-1, 0, len(labels))[:, None]
        return Outputs(
            logits=logits,
            features=features,
            labels=labels,
            index=np.arange(len(labels)),
            weight=weight.astype(np.float32),
            bias=np.zeros(classes, np.float32),
            extra_logits=logits[:, :1],
            odin=column,
            rotation=column,
        )

    own, tested, fifth = np.arange(count) % classes, np.arange(100) % classes, np.arange(100) % 5
    return (
        outputs(centres[own], own),
        outputs(centres[tested], tested),
        outputs(others[fifth], tested * 0 - 1),
    )


def dead(features):
    """Every second feature is 0."""
    return np.where(np.arange(features.shape[1]) % 2, features, 0.0)


def collinear(features):
    """All features are the first one."""
    return np.repeat(features[:, :1], features.shape[1], axis=1)


ORDINARY = {"count": 900, "classes": 6, "width": 32}
CASES = {
    "ordinary": ORDINARY,
    "fewer images than features": {"count": 60, "classes": 3, "width": 512},
    "fewer features than classes": {"count": 1000, "classes": 50, "width": 4},
    "one feature": {"count": 300, "classes": 3, "width": 1},
    "dead features": ORDINARY | {"change": dead},
    "collinear features": ORDINARY | {"change": collinear},
    "half precision": ORDINARY | {"half": True},
    "two classes": {"count": 200, "classes": 2, "width": 16},
    "1,000 classes": {"count": 4000, "classes": 1000, "width": 64},
    "features of 1e18": ORDINARY | {"change": lambda features: 1e18 * features},
    "two images a class": {"count": 12, "classes": 6, "width": 32},
}
# What is said instead of scores, and where alone it may be said.
NO_RIGHT_IMAGE = {
    "fewer features than classes", "one feature", "dead features", "collinear features", "1,000 classes",
}  # fmt: skip
FEW_DIRECTIONS = {"dead features", "collinear features"}
REFUSALS = {
    "mav": ("correctly classified training images of each known class", NO_RIGHT_IMAGE),
    "she": ("correctly classified training images of each known class", NO_RIGHT_IMAGE),
    "openmax": (
        "correctly classified training images of each known class",
        NO_RIGHT_IMAGE | {"two images a class"},
    ),
    "vim": ("finds no residual", FEW_DIRECTIONS),
    "residual": ("finds no residual", FEW_DIRECTIONS),
    "knn": ("but there are only 12", {"two images a class"}),
    "ensemble": ("finds no residual", FEW_DIRECTIONS),
}


def fitted_scores(detector, train, *judged):
    """The scores of each, or what the detector says instead."""
    try:
        detector.fit(train)
        return tuple(detector.score(images) for images in judged)
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("case", CASES)
def test_each_detector_scores_every_image_or_says_why_not(case):
    train, known, unknown = awkward(**CASES[case])
    right = known.predictions == known.labels
    for name in DETECTORS:
        said, where = REFUSALS.get(name, ("", ()))
        detector = build_detectors(settings().model_copy(update={"enabled": (name,)}))[name]
        scores = fitted_scores(detector, train, known, unknown)
        if isinstance(scores, str):
            assert case in where, f"{name}: {scores}"
            assert said in scores
            continue
        assert all(np.isfinite(part).all() for part in scores), name
        assert open_set_metrics(scores[0], right, scores[1])["auoscr"] <= right.mean() + 1e-12, name
