"""Our detectors beside pytorch-ood's on the same arrays: equal where it is right, and shown where it is not.

docs/parity.md lists the outcome; each row there names its test here. pytorch-ood comes with
requirements-dev.txt, and these tests are skipped where it is not installed.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import logsumexp, softmax

pytest.importorskip("pytorch_ood", reason="pytorch-ood is not installed: pip install -r requirements-dev.txt")

from benchmarks.openmax_programs import activations, preset
from benchmarks.peer_pytorch_ood import PEERS, flat_head
from osr.detectors.odin import Odin
from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
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


def confident(gaps):
    """Images whose largest logit leads by these gaps, all others equal."""
    logits = np.zeros((len(gaps), 3), np.float32)
    logits[:, 0] = gaps
    return replace(
        made(np.zeros((len(gaps), 2)), np.zeros(len(gaps)), np.zeros((3, 2)), np.zeros(3)), logits=logits
    )


def test_msp_keeps_the_order_of_confident_images():
    images = confident([20.0, 25, 40, 60])
    ours, theirs = scores("msp", settings_with(), images, images)
    assert (theirs == -1).all()
    assert_allclose(ours, 2 * np.exp(-np.array([20.0, 25, 40, 60])), rtol=1e-5)


@pytest.mark.parametrize("name", ["gen", "entropy"])
def test_probabilities_below_1e_7_count(name):
    gaps = np.array([20.0, 25, 30])
    ours, theirs = scores(name, settings_with(), confident(gaps), confident(gaps))
    rest = 2 * np.exp(-gaps)  # 1 - max p, but for a share of 1e-8
    right = {
        "gen": rest**0.1 + 2 * (rest / 2) ** 0.1,
        "entropy": rest - rest * np.log(rest / 2),
    }[name]
    assert_allclose(ours, right, rtol=1e-5)
    assert theirs[1] == theirs[2]  # cut off at 1e-7


def test_klm_of_confident_images_keeps_its_digits():
    train, test = drawn(1, COUNT, sharpness=2.0), drawn(2, 200, sharpness=2.0)
    ours, theirs = scores("klm", settings_with(), train, test)
    p, q = softmax(train.logits.astype(float), axis=1), softmax(test.logits.astype(float), axis=1)
    templates = np.stack([p[train.predictions == c].mean(0) for c in range(CLASSES)])
    right = (q[:, None] * (np.log(q[:, None].clip(1e-300)) - np.log(templates))).sum(2).min(1)
    small = right < 1e-5
    assert small.sum() > 50
    assert_allclose(ours[small], right[small], rtol=1e-3, atol=1e-12)
    assert np.abs(theirs[small] / right[small] - 1).max() > 1e-2
    assert theirs.min() < 0  # a divergence cannot be


@pytest.mark.parametrize("name", ["mahalanobis", "rmds"])
def test_gaussians_of_a_feature_that_nearly_repeats_another(name):
    """Their inverse is taken in float32, and the means are taken off last."""

    def unequal(outputs, seed):
        features = outputs.features.copy()
        features[:, 1] = features[:, 2] + 1e-3 * np.random.default_rng(seed).normal(size=len(features))
        return made(features, outputs.labels, outputs.weight, outputs.bias)

    train, test = unequal(TRAIN, 3), unequal(TEST, 4)
    ours, theirs = scores(name, settings_with(**{name: {"ridge": 1e-12}}), train, test)
    x, y = train.features.astype(float), test.features.astype(float)
    means = np.stack([x[train.labels == c].mean(0) for c in range(CLASSES)])

    def distance(centre, spread):
        solved = np.linalg.solve(spread.T @ spread / len(spread), (y - centre).T).T
        return ((y - centre) * solved).sum(1)

    right = np.min([distance(mean, x - means[train.labels]) for mean in means], axis=0)
    if name == "rmds":
        right = right - distance(x.mean(0), x - x.mean(0))
    error = np.abs(ours - right).max() / np.abs(right).max()
    their_error = np.abs(EQUAL[name][0] * theirs - right).max() / np.abs(right).max()
    assert error < 2e-3
    assert their_error > 10 * error


def test_a_feature_vector_of_zeros_has_a_score():
    test = made(np.zeros((1, WIDTH)), [0], TRAIN.weight, TRAIN.bias)
    for name in ("ash", "scale"):
        ours, theirs = scores(name, settings_with(), TRAIN, test)
        assert_allclose(ours, -logsumexp(TRAIN.bias.astype(float)), rtol=1e-5)
        assert np.isnan(theirs).all(), name
    ours, theirs = scores("knn", settings_with(), TRAIN, test)
    assert_allclose([ours, theirs], 1, rtol=1e-6)


def test_ash_b_fills_active_features_only():
    features = np.zeros((1, WIDTH))
    features[0, :2] = 3
    test = made(features, [0], TRAIN.weight, TRAIN.bias)
    changes = {"ash": {"variant": "B", "pruned_fraction": 0.5}}
    ours, theirs = scores("ash", settings_with(**changes), TRAIN, test)
    assert_allclose(ours, -logsumexp(test.logits.astype(float), axis=1), rtol=1e-5)  # sum 6 over 2, as before
    assert abs(theirs[0] - ours[0]) > 0.1  # sum 6 over 8, six of them inactive


def test_fdbd_of_classes_that_share_a_row():
    weight, bias = TRAIN.weight.copy(), TRAIN.bias.copy()
    weight[1], bias[1] = weight[0], bias[0]
    train, test = (made(part.features, part.labels, weight, bias) for part in (TRAIN, TEST))
    ours, theirs = scores("fdbd", settings_with(), train, test)
    assert np.isfinite(ours).all()
    assert np.isnan(theirs).any()


def test_vim_where_variances_span_six_decades():
    """Their covariance and its eigenvectors are float32: directions of nearly equal variance mix."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(64, 64)))[0]
    weight, bias = rng.normal(size=(5, 64)) + 1, rng.normal(size=5)
    train, test = (
        made(
            rng.normal(size=(count, 64)) * np.logspace(0, -3, 64) @ turn.T + 1, np.zeros(count), weight, bias
        )
        for count in (3000, 200)
    )
    ours, theirs = scores("vim", settings_with(vim={"dimension": 32}), train, test)
    origin = -np.linalg.pinv(train.weight.astype(float)) @ train.bias
    x, y = (part.features.astype(float) - origin for part in (train, test))
    minor = np.linalg.eigh(x.T @ x)[1][:, :32]
    alpha = train.logits.max(1).astype(float).mean() / np.linalg.norm(x @ minor, axis=1).mean()
    right = alpha * np.linalg.norm(y @ minor, axis=1) - logsumexp(test.logits.astype(float), axis=1)
    error, their_error = (np.abs(found - right).max() / np.ptp(right) for found in (ours, theirs))
    assert error < 1e-5
    assert their_error > 10 * error


def test_vim_with_too_few_features():
    settings = settings_with(vim={"dimension": WIDTH})
    with pytest.raises(InputError, match="nothing would be left"):
        build_detectors(settings.model_copy(update={"enabled": ("vim",)}))["vim"].fit(TRAIN)
    assert not np.isfinite(PEERS["vim"](TRAIN, settings)(TEST)).any()  # 0 residual, alpha infinite


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


OPENMAX = {"tail_size": 20, "alpha": 10, "correct_only": False}


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


def test_openmax_is_changed_by_the_translation():
    ours, theirs = scores("openmax", settings_with(openmax=OPENMAX), MILD_TRAIN, MILD_TEST)
    assert np.abs(ours - theirs).max() > 0.02


def test_the_preset_is_pytorch_oods_openmax_on_stored_activations():
    train, test = activations()
    ours, theirs = scores("openmax", preset("pytorch_ood"), train, test)
    assert np.ptp(theirs) > 0.5
    assert_allclose(ours, theirs, atol=5e-4)


def test_openmax_does_not_depend_on_the_batch():
    settings = settings_with(openmax=OPENMAX)
    (detector,) = build_detectors(settings.model_copy(update={"enabled": ("openmax",)})).values()
    detector.fit(MILD_TRAIN)
    theirs = PEERS["openmax"](MILD_TRAIN, settings)
    alone = MILD_TEST.select(slice(0, 1))
    assert detector.score(alone)[0] == pytest.approx(detector.score(MILD_TEST)[0], rel=1e-6)
    assert abs(theirs(alone)[0] - theirs(MILD_TEST)[0]) > 1e-3
