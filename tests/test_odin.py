"""ODIN against gradients worked out by hand, and through the extraction and the predictor."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extracted import CPU, IMAGES, build, data_of
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import Msp
from osr.detectors.odin import Odin
from osr.detectors.registry import network_again_of
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.inference.predictor import Predictor
from osr.params import check_params
from osr.settings.reading import read_yaml
from pipeline import fit_openmax
from pipeline.experiments.overrides import merge

ROOT = Path(__file__).parents[1]


class Linear:
    """Logits W x of four pixels; preprocessing halves the bytes."""

    head = SimpleNamespace(num_classes=3)
    weight = torch.tensor([[1.0, 0, 2, 0], [0, 1, -1, 1], [0.5, 0.5, 0, -2], [9, 9, 9, 9]])  # the last: extra

    def preprocess(self, images):
        return images.float() / 2

    def classify(self, pixels):
        return pixels.flatten(1) @ self.weight.T, pixels


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_by_hand(temperature):
    images = np.array([[3, 1, 2, 0], [0, 4, 1, 5], [2, 1, 0, 0]], np.uint8)
    found = Odin(temperature=temperature, epsilon=0.25).column_of(
        Linear(), torch.from_numpy(images).view(3, 1, 2, 2)
    )
    weight, pixels = Linear.weight[:3].double().numpy(), images / 2
    p = softmax(pixels @ weight.T / temperature, axis=1)
    # The gradient of -log p_y is the mean row of W minus row y, over T.
    gradient = (p @ weight - weight[p.argmax(axis=1)]) / temperature
    moved = pixels - 0.25 * np.sign(gradient)
    assert_allclose(found.numpy(), -softmax(moved @ weight.T / temperature, axis=1).max(axis=1), rtol=1e-6)
    assert found.dtype == torch.float64


def made(model, odin, *, batch_size=512):
    rows = np.arange(30)
    data = data_of(IMAGES, rows, torch.from_numpy(rows % 3).numpy())
    return extract(
        model, data, index=rows, batch_size=batch_size, device=CPU, title="test", again=[odin] if odin else []
    )


def test_the_step_raises_the_largest_probability_as_autograd_says():
    model = build(width=24).eval()
    small, none = (Odin(temperature=10.0, epsilon=epsilon) for epsilon in (1e-3, 0.0))
    outputs = made(model, small)
    before = -made(model, none).odin[:, 0]
    assert_allclose(before, softmax(outputs.logits.astype(float) / 10, axis=1).max(axis=1), rtol=1e-6)
    pixels = model.preprocess(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2))).requires_grad_()
    logits, _ = model.classify(pixels)
    probability = (logits / 10).softmax(1).amax(1)
    (gradient,) = torch.autograd.grad(probability.sum(), pixels)
    rise = 1e-3 * gradient.abs().flatten(1).sum(1).numpy()  # to first order
    assert_allclose(-outputs.odin[:, 0] - before, rise, rtol=0.1, atol=1e-6)


def test_extraction_stores_it_and_leaves_the_rest_alone():
    model, odin = build(), Odin(temperature=1000.0, epsilon=0.0014)
    plain, outputs = made(model, None), made(model, odin)
    assert plain.odin.shape == (30, 0)
    assert_array_equal(outputs.logits, plain.logits)
    assert_array_equal(odin.score(outputs), outputs.odin[:, 0])
    assert_allclose(made(model, odin, batch_size=7).odin, outputs.odin, rtol=1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


def test_outputs_made_without_it_are_refused():
    with pytest.raises(InputError, match=r"odin needs the network again.*extraction.odin"):
        Odin(temperature=1000.0, epsilon=0.0014).score(made(build(), None))


@pytest.mark.parametrize("alone", [True, False])
def test_the_predictor_computes_it(alone):
    model, odin = build(), Odin(temperature=1000.0, epsilon=0.0014)
    outputs = made(model, odin)
    detector = odin if alone else Ensemble(members=(Msp(), odin)).fit(outputs)
    assert network_again_of(detector) == (odin,)
    assert network_again_of(Msp()) == ()
    identity = SimpleNamespace(apply=lambda logits: logits)
    predictor = Predictor(model, detector, threshold=0.0, calibration=identity, batch_size=7)
    assert_allclose(predictor.predict(IMAGES).scores, detector.score(outputs), rtol=1e-6)


def test_training_images_pass_again_only_for_their_ranks_in_an_ensemble(monkeypatch):
    asked = {}

    def stop(part, _params, _into, *, again=None):
        asked[part] = "odin" in again
        raise InputError("enough")

    monkeypatch.setattr(fit_openmax, "extract_part", stop)
    shipped = read_yaml(ROOT / "params.yaml")
    for enabled, expected in ((["maxlogit", "odin"], False), (["maxlogit", "odin", "ensemble"], True)):
        detectors = {"enabled": enabled, "ensemble": {"members": ["msp", "odin"]}}
        changes = {"extraction": {"odin": True}, "detectors": detectors}
        params = check_params(merge(shipped, changes), source="test")
        with pytest.raises(InputError, match="enough"):
            fit_openmax.fit_openmax(params, None)
        assert asked.pop("train") is expected
