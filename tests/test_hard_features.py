"""Every detector on features on which float32 goes wrong, against float64 written from the papers."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from detector_references import REFERENCES
from numpy.testing import assert_allclose
from test_detectors import settings

from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
from osr.outputs import Outputs

# Small enough for all cases, and the same in the reference.
CHOSEN = {
    "gen": {"gamma": 0.1, "num_top": 3},
    "mav": {"space": "features"},
    "openmax": {"tail_size": 5, "alpha": 3},
    "mahalanobis": {"ridge": 1e-6},
    "rmds": {"ridge": 1e-6},
    "knn": {"num_neighbors": 7},
    "nnguide": {"num_neighbors": 5},
    "vim": {"dimension": 6},
    "react": {"quantile": 0.9, "lower_quantile": 0.0},
    "ash": {"pruned_fraction": 0.7},
    "scale": {"pruned_fraction": 0.7},
    "dice": {"masked_fraction": 0.5},
    "nci": {"alpha": 0.01},
    "relation": {"power": 2.0},
    "neco": {"dimension": 6, "by_maxlogit": False},
    "residual": {"dimension": 6},
    "ensemble": {"members": ("maxlogit", "knn")},
}
ONLY_OURS = {"nnguide": {"bank_fraction": 1.0}}
REFERENCE_ONLY = {"ensemble": {"num_neighbors": 7}}


def head(centres):
    """The linear classifier that names the nearest centre."""
    return (centres - centres.mean(0)).astype(np.float32), -0.5 * np.square(centres).sum(1)


def made(features, labels, centres, scale=1.0, offset=0.0) -> Outputs:
    weight, bias = head(centres)
    bias = (scale * (bias - bias.mean()) + offset).astype(np.float32)
    features = (scale * features).astype(np.float32)
    logits = (features.astype(float) @ weight.T + bias).astype(np.float32)
    extra = np.full((len(features), 1), scale + offset, np.float32)
    odin = np.linspace(-1, 0, len(features))[:, None]
    return Outputs(logits, features, labels, np.arange(len(features)), weight, bias, extra, odin, odin)


def drawn(*, classes=5, width=24, per_class=30, within=0.5, constant=None, spectrum=None, **made_with):
    """Training and test images: ReLU features around a centre for each class, and between the centres."""
    rng = np.random.default_rng(0)
    centres = 1 + np.abs(rng.normal(size=(classes, width)))
    if constant is not None:
        centres[:, 2::5] = constant
    shape = np.ones(width) if spectrum is None else np.logspace(0, spectrum, width)

    def around(places):
        features = np.maximum(places + within * shape * rng.normal(size=places.shape), 0)
        return features if constant is None else np.where(centres[0] == constant, constant, features)

    labels = np.arange(classes * per_class) % classes
    own = np.arange(40) % classes
    between = 0.5 * (centres[own] + centres[(own + 1) % classes])
    judged = around(np.concatenate([centres[own], between]))
    train = made(around(centres[labels]), labels, centres, **made_with)
    return train, made(judged, np.concatenate([own, np.full(40, -1)]), centres, **made_with)


def halved(**drawn_with):
    names = ("logits", "features", "weight", "bias", "extra_logits")
    return tuple(
        replace(images, **{name: getattr(images, name).astype(np.float16) for name in names})
        for images in drawn(**drawn_with)
    )


CASES = {
    "ordinary": drawn,
    "fewer images than features": lambda: drawn(width=200, per_class=12),
    "collapsed": lambda: drawn(within=3e-3),
    "collapsed further": lambda: drawn(within=1e-4),
    "constant column": lambda: drawn(constant=0.75),
    "dead column": lambda: drawn(constant=0.0),
    "variances over six decades": lambda: drawn(spectrum=-3),
    "one image a class": lambda: drawn(classes=30, per_class=1),
    "1,000 classes": lambda: drawn(classes=1000, width=16, per_class=6, within=0.02),
    "offset of the logits": lambda: drawn(offset=1000.0),
    "offset that leaves no logit above 0": lambda: drawn(offset=-1000.0),
    "half precision": halved,
    "half precision, collapsed": lambda: halved(within=3e-3),
    "scale 1e-4": lambda: drawn(scale=1e-4),
    "scale 1e4": lambda: drawn(scale=1e4),
}
# Nothing varies within the classes there, and no distance is above 0.
REFUSED = {
    ("one image a class", "mahalanobis"): "one image of each class",
    ("one image a class", "rmds"): "one image of each class",
    ("one image a class", "openmax"): "class 0 has 1",
}


@cache
def images_of(case):
    return CASES[case]()


def made_detector(name):
    chosen = settings()
    for key, values in {
        **CHOSEN,
        **{key: {**CHOSEN[key], **more} for key, more in ONLY_OURS.items()},
    }.items():
        chosen = chosen.model_copy(update={key: getattr(chosen, key).model_copy(update=values)})
    return build_detectors(chosen.model_copy(update={"enabled": (name,)}))[name]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_float64(case, name):
    train, test = images_of(case)
    if (case, name) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[case, name]):
            made_detector(name).fit(train)
        return
    found = made_detector(name).fit(train).score(test)
    right = REFERENCES[name](train, test, **{**CHOSEN, **REFERENCE_ONLY}.get(name, {}))
    assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.ptp(right) + 1e-300)


@pytest.mark.parametrize("name", ["mahalanobis", "rmds"])
@pytest.mark.parametrize("case", CASES)
def test_normalized_gaussians_are_those_of_float64(case, name):
    if (case, name) in REFUSED:
        return
    train, test = images_of(case)
    detector = DETECTORS[name](ridge=1e-6, normalize=True).fit(train)
    found, right = detector.score(test), REFERENCES[name](train, test, ridge=1e-6, normalize=True)
    assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.ptp(right))
    assert_allclose(detector.score(test.select(np.array([41])))[0], found[41], rtol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("case", CASES)
def test_an_image_alone_scores_as_in_a_batch(case, name):
    if (case, name) in REFUSED:
        return
    train, test = images_of(case)
    detector = made_detector(name).fit(train)
    found = detector.score(test)
    for row in (0, 1, 41, 79):
        assert_allclose(detector.score(test.select(np.array([row])))[0], found[row], rtol=1e-6)


@pytest.mark.parametrize("name", ["mahalanobis", "rmds"])
@pytest.mark.parametrize("case", CASES)
def test_a_chosen_ridge_always_gives_numbers(case, name):
    if (case, name) in REFUSED:
        return
    train, test = images_of(case)
    assert settings().mahalanobis.ridge == settings().rmds.ridge == "auto"
    scores = DETECTORS[name](ridge="auto").fit(train).score(test)
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0
