"""One graph for any runtime: the answers of the library, for every detector and images of any size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from test_detectors import make
from test_extraction import CPU, build
from test_predict import ROOT, model, write_run  # noqa: F401 (a fixture)
from torch import nn

from osr.calibration.calibrators import Isotonic, Temperature, Vector
from osr.data.batches import ArrayImages
from osr.detectors.neighbors import Knn
from osr.detectors.registry import DETECTORS
from osr.detectors.tracing import Traced
from osr.frame import Frame
from osr.inference import graph, graph_files
from osr.inference.extraction import extract
from osr.inference.parts import Parts
from osr.inference.predictor import Predictor
from osr.metrics.threshold_files import StoredThresholds
from osr.metrics.thresholds import Threshold
from osr.stored.origin import Origin

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: osr[onnx]")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: osr[onnx]")

from osr_runtime.fitting import Square  # noqa: E402

NAMES = [name for name in DETECTORS if name not in ("odin", "rotpred")]
SIZES = ((6, 6), (6, 9), (5, 17), (40, 23))
OTHERS = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 1), dtype=np.uint8)  # of no stored score
FRAMES = [
    Frame(6, interpolation, crop)
    for interpolation in ("bilinear", "bicubic", "nearest")
    for crop in (None, 0.7)
]


def scenes(seed, count):
    """Class c has a bright row 2 c, under noise; (count, 6, 6, 1) uint8."""
    draws = np.random.default_rng(seed)
    images = draws.integers(0, 60, (count, 6, 6, 1))
    images[np.arange(count), 2 * (np.arange(count) % 3)] += 150
    return images.astype(np.uint8)


def outputs_of(network, images):
    rows = np.arange(len(images))
    data = ArrayImages(images, rows, torch.from_numpy(rows % 3))
    return extract(network, data, index=rows, batch_size=64, device=CPU, title="test")


@pytest.fixture(scope="module")
def network():
    """A seeded network whose head knows the classes of `scenes`, with an extra class."""
    made, images = build(width=16, extra=1), torch.from_numpy(scenes(0, 150).transpose(0, 3, 1, 2))
    with torch.no_grad():
        for _ in range(40):
            made.train()(images)
        features = made.eval().embed(made.preprocess(images))
        means = torch.stack([features[label::3].mean(0) for label in range(3)])
        weight = means - means.mean(0)
        made.head.weight[:3] = weight
        made.head.bias[:3] = -weight @ means.mean(0)
    return made


@pytest.fixture(scope="module")
def fitted(network):
    train = outputs_of(network, scenes(0, 150))
    # Few enough neighbours that a bank of 150 is searched in groups, as large ones are.
    chosen = {name: make(name) for name in NAMES} | {"knn": Knn(num_neighbors=3)}
    return {name: detector.fit(train) for name, detector in chosen.items()}


def parts_of(network, detector, calibration=Temperature(2.0)):  # noqa: B008 (frozen)
    """With a threshold between two of forty images."""
    scores = np.sort(detector.score(outputs_of(network, scenes(1, 40))))
    threshold = Threshold(float(scores[19:21].mean()), "acceptance", 0.5, 0.5, 40)
    stored = StoredThresholds(Path("none"), {}, {}, Origin(), "2" * 16)
    return Parts(network, calibration, {detector.name: (detector, threshold)}, stored)


class EveryScore(nn.Module):
    """All detectors side by side, so that one graph is recorded and not thirty."""

    def __init__(self, detectors):
        super().__init__()
        self.detectors = detectors

    def forward(self, logits, features, extra_logits, weight, bias):
        traced = Traced(logits, features, extra_logits, weight, bias)
        return {name: detector.score_traced(traced) for name, detector in self.detectors.items()}


FIELDS = ("logits", "features", "extra_logits", "weight", "bias")


@pytest.fixture(scope="module")
def outputs(network):
    """Of forty images, and what a network hardly gives: very confident ones, and features of nothing."""
    plain, draws = outputs_of(network, scenes(1, 40)), np.random.default_rng(0)
    rows = np.arange(84)
    added = {
        "logits": (90 * plain.logits, draws.normal(size=(4, 3))),
        "features": (plain.features, np.zeros((4, 16))),
        "extra_logits": (plain.extra_logits, draws.normal(size=(4, 1))),
    }
    joined = {name: np.concatenate([getattr(plain, name), *parts]) for name, parts in added.items()}
    return replace(
        plain,
        **{name: array.astype(np.float32) for name, array in joined.items()},
        labels=rows % 3,
        index=rows,
        odin=np.empty((84, 0)),
        rotation=np.empty((84, 0)),
    )


@pytest.fixture(scope="module")
def program(fitted, outputs):
    """Every detector, recorded with five images."""
    arrays = arrays_of(outputs.select(np.arange(5)))
    images = torch.export.Dim("images", min=1)
    shapes = tuple({0: images} if name in FIELDS[:3] else {} for name in FIELDS)
    given = tuple(map(torch.from_numpy, arrays.values()))
    return torch.export.export(EveryScore(fitted), given, dynamic_shapes=shapes)


def arrays_of(outputs):
    return {name: np.ascontiguousarray(getattr(outputs, name)) for name in FIELDS}


@pytest.fixture(scope="module")
def scored(program, outputs):
    """What the program says of all images, and of one alone."""
    recorded = program.module()
    return [
        recorded(*map(torch.from_numpy, arrays_of(part).values()))
        for part in (outputs, outputs.select(np.arange(1)))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_detector_scores_in_a_program_as_in_the_library(fitted, outputs, scored, name):
    expected = fitted[name].score(outputs)
    for found in scored:
        assert found[name].dtype == torch.float64
        assert_allclose(found[name], expected[: len(found[name])], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_every_detector_scores_in_onnx_as_in_the_library(fitted, outputs, program):
    translated = graph_files.translated(program, FIELDS, NAMES)
    session = onnxruntime.InferenceSession(translated.SerializeToString())
    for part in (outputs, outputs.select(np.arange(1))):
        for name, found in zip(NAMES, session.run(None, arrays_of(part)), strict=True):
            expected = fitted[name].score(part)
            assert_allclose(found, expected, rtol=1e-4, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_graph_resizes_as_the_library_does(frame):
    fit, draws = graph.Fit(frame), torch.Generator().manual_seed(0)
    for size in (*SIZES, (3, 2), (1, 1), (301, 77), (6, 500)):
        pixels = torch.rand((2, 3, *size), generator=draws)
        assert_allclose(fit(pixels), frame.fit(pixels), atol=2e-6)
    pixels = torch.rand((1, 1, 6, 6))
    assert_array_equal(fit(pixels), pixels)


@pytest.mark.parametrize(
    "frame", [replace(frame, size=size) for frame in FRAMES for size in (9, 28)], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_runtime_shrinks_large_images_to_the_last_bit(frame, channels):
    draws = np.random.default_rng(0)
    for size in ((70, 90), (333, 65), (9, 200), (28, 28), (20, 21)):
        pixels = draws.integers(0, 256, (*size, channels), dtype=np.uint8)
        square = Square(frame.size, frame.interpolation, frame.crop_fraction)
        assert_array_equal(square.shrunk(pixels), frame.shrunk(pixels), err_msg=str(size))
        assert square.short_side == frame.short_side


@pytest.mark.parametrize(
    "calibration",
    [
        Temperature(1.7),
        Vector((0.5, 2.0, 1.0), (0.1, -0.2, 0.1)),
        Isotonic((0.4, 0.6, 0.9), (0.35, 0.7, 0.8)),
        Isotonic((0.5,), (0.6,)),
    ],
)
def test_the_graph_calibrates_as_the_library_does(calibration):
    logits = np.random.default_rng(0).normal(size=(50, 3), scale=3).astype(np.float32)
    expected = calibration.apply(logits)
    found = graph.calibrated(calibration, torch.from_numpy(logits).double())
    assert_allclose(found, expected, rtol=1e-9)
    if not isinstance(calibration, Vector):
        alone = graph.calibrated(calibration, torch.from_numpy(logits[:, :1]).double())
        assert_allclose(alone, calibration.apply(logits[:, :1]), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_whole_graphs_decide_as_the_library_does(network, fitted, name, tmp_path):
    parts = parts_of(network, fitted[name], Isotonic((0.4, 0.9), (0.3, 0.95)))
    program = graph_files.record(parts, name)
    graph_files.write_onnx(tmp_path / "g.onnx", program, graph_files.describe(parts, name, 8))
    session = onnxruntime.InferenceSession(tmp_path / "g.onnx")
    detector, threshold = parts.detectors[name]
    calibration = parts.calibration
    predictor = Predictor(
        network, detector, threshold=threshold.value, calibration=calibration, batch_size=64
    )
    for rows, columns in ((1, 1), (2, 1), (3, 5)):
        images = np.tile(scenes(1, 40), (1, rows, columns, 1))
        expected = predictor.predict(images)
        label, score, probabilities, prediction = session.run(None, {"images": images})
        assert [name == "unknown" for name in expected.labels] == (label < 0).tolist()
        assert_array_equal(prediction, expected.predictions)
        # A difference near 0 has the rounding of what it is a difference of.
        assert_allclose(score, expected.scores, rtol=1e-4, atol=1e-5 * expected.scores.std())
        assert_allclose(probabilities, expected.probabilities, rtol=1e-3, atol=1e-6)
