"""Our detectors beside pytorch-ood's on the same arrays: equal where it is right.

docs/parity.md lists the outcome; each row there names its tests, here or in test_parity_differences.py.
pytorch-ood comes with requirements-dev.txt, and these tests are skipped where it is not installed.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

pytest.importorskip("pytorch_ood", reason="pytorch-ood is not installed: pip install -r requirements-dev.txt")

from parity_arrays import (
    CLASSES,
    COUNT,
    EQUAL,
    MILD_TEST,
    MILD_TRAIN,
    OPENMAX,
    TEST,
    TRAIN,
    WIDTH,
    made,
    scores,
    settings_with,
)

from benchmarks.openmax_programs import activations, preset
from benchmarks.peer_pytorch_ood import PEERS, flat_head
from osr.detectors.odin import Odin
from osr.detectors.registry import DETECTORS, build_detectors


@pytest.mark.parametrize("name", EQUAL)
def test_equal(name):
    factor, offset, changes = EQUAL[name]
    ours, theirs = scores(name, settings_with(**changes), MILD_TRAIN, MILD_TEST)
    assert theirs.shape == ours.shape
    assert_allclose(ours, factor * theirs + offset, rtol=2e-5, atol=2e-5 * np.abs(ours).max())


def test_equal_vra():
    """Where every feature has the quantiles of all: theirs takes those of each."""
    from pytorch_ood.detector import VRA

    rng = np.random.default_rng(0)
    columns = np.stack([rng.permutation(np.repeat(np.arange(1, 11), COUNT // 10)) for _ in range(WIDTH)], 1)
    train = made(columns, MILD_TRAIN.labels, MILD_TRAIN.weight, MILD_TRAIN.bias)
    test = made(3 * MILD_TEST.features, MILD_TEST.labels, MILD_TEST.weight, MILD_TEST.bias)
    chosen = settings_with(react={"quantile": 0.85, "lower_quantile": 0.25})
    ours = build_detectors(chosen.model_copy(update={"enabled": ("react",)}))["react"].fit(train).score(test)
    peer = VRA(None, flat_head(train), lower_percentile=0.25, upper_percentile=0.85)
    maps = [torch.from_numpy(images.features)[:, :, None, None] for images in (train, test)]
    theirs = peer.fit_feature_maps(maps[0], torch.from_numpy(train.labels)).predict_feature_maps(maps[1])
    clipped = np.clip(test.features, 3, 9)
    assert 0.05 < np.mean(clipped != test.features) < 0.95
    assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-5 * np.abs(ours).max())


@pytest.mark.parametrize("variant", ["S", "B", "P"])
def test_equal_ash(variant):
    ours, theirs = scores("ash", settings_with(ash={"variant": variant}), TRAIN, TEST)
    assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * np.abs(ours).max())


@pytest.mark.parametrize("name", ["energy", "maxlogit", "mahalanobis", "rmds", "vim", "she", "dice", "fdbd"])
def test_equal_with_confident_images(name):
    factor, offset, changes = EQUAL[name]
    ours, theirs = scores(name, settings_with(**changes), TRAIN, TEST)
    assert_allclose(ours, factor * theirs + offset, rtol=1e-4, atol=2e-5 * np.abs(ours).max())


def test_every_detector_that_the_peer_has_is_compared():
    assert set(EQUAL) | {"ash", "openmax", "pnml"} == set(PEERS) <= set(DETECTORS)


def test_equal_pnml():
    """On features of length 1, where the head's softmax is the same on both sides."""

    def shortened(images):
        length = np.linalg.norm(images.features, axis=1, keepdims=True)
        return made(images.features / length, images.labels, images.weight, images.bias)

    ours, theirs = scores("pnml", settings_with(), shortened(MILD_TRAIN), shortened(MILD_TEST))
    assert np.ptp(ours) > 0
    assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.ptp(ours))


def test_equal_odin():
    from pytorch_ood.detector import ODIN

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 20), torch.nn.Tanh())
    network.append(torch.nn.Linear(20, CLASSES)).double()

    class Model:
        head = SimpleNamespace(num_classes=CLASSES)

        def preprocess(self, images):
            return images.double() / 255

        def classify(self, pixels):
            return network(pixels), pixels

    images = torch.randint(0, 256, (50, 3, 2, 2), dtype=torch.uint8)
    ours = Odin(temperature=10.0, epsilon=0.05).column_of(Model(), images).numpy()
    theirs = ODIN(network, eps=0.05, temperature=10.0)(Model().preprocess(images)).numpy()
    assert_allclose(ours, theirs, rtol=1e-9)


# Ours is factor x theirs + offset; for OpenOOD's algorithms as written anew in benchmarks/.
OPENOOD = {
    **dict.fromkeys(
        ["maxlogit", "energy", "gen", "gradnorm", "mahalanobis", "rmds", "nnguide", "vim"], (1, 0)
    ),
    **dict.fromkeys(["klm", "she", "react", "ash", "scale", "dice"], (1, 0)),
    "msp": (1, 1),
    "fdbd": (1 / (CLASSES - 1), 0),
    "knn": (1, 0),
    "openmax": (1, 0),
}


@pytest.mark.parametrize("name", OPENOOD)
def test_equal_openood(name):
    peers = pytest.importorskip(
        "benchmarks.peer_openood", reason="faiss is not installed", exc_type=ImportError
    )
    factor, offset = OPENOOD[name]
    changes = {"mahalanobis": {"ridge": 1e-9}, "rmds": {"ridge": 1e-9}, "openmax": {"translation": "libmr"}}
    settings = settings_with(**changes)
    (ours,) = build_detectors(settings.model_copy(update={"enabled": (name,)})).values()
    found, theirs = ours.fit(MILD_TRAIN).score(MILD_TEST), peers.PEERS[name](MILD_TRAIN, settings)(MILD_TEST)
    theirs = np.sqrt(theirs) if name == "knn" else theirs
    assert_allclose(found, factor * theirs + offset, rtol=2e-5, atol=2e-5 * np.abs(found).max())


def test_equal_openmax():
    """Their fit is approximate, of distances near 10,000 in float32."""
    changes = OPENMAX | {"translation": "osdn"}
    ours, theirs = scores("openmax", settings_with(openmax=changes), MILD_TRAIN, MILD_TEST)
    assert np.ptp(ours) > 0.1
    assert_allclose(ours, theirs, rtol=2e-3, atol=5e-4)


def test_equal_openmax_without_their_translation(monkeypatch):
    """Distances are fitted as they are once their shift to 10,000 is taken away."""
    from pytorch_ood.detector.openmax.libnotmr import LibNotMR

    as_they_are = property(lambda self: self.min_val, lambda *_: None)
    monkeypatch.setattr(LibNotMR, "translation", as_they_are, raising=False)
    ours, theirs = scores("openmax", settings_with(openmax=OPENMAX), MILD_TRAIN, MILD_TEST)
    assert np.ptp(ours) > 0.1
    assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)


def test_the_preset_is_pytorch_oods_openmax_on_stored_activations():
    train, test = activations()
    ours, theirs = scores("openmax", preset("pytorch_ood"), train, test)
    assert np.ptp(theirs) > 0.5
    assert_allclose(ours, theirs, atol=5e-4)
