"""The graph of a finished run in ONNX Runtime beside PyTorch: the same answers, and how fast.

    python -m benchmarks.onnx PROJECT

PROJECT is a folder with a finished run; 10,000 of its test images are judged, and where there are fewer, they
come again with noise. First every detector that its training outputs can be fitted for, in one graph with the
network: labels at a threshold that accepts 95 % of the validation images, and the largest error of a score:

- relative: to the score, or to the interquartile range of the validation images' scores where that is larger,
  because a score that passes through 0 has no digits there;
- to the score itself, and how many images exceed 1e-4 so;
- to the score itself when both are given PyTorch's logits and features: the error that the detector's own
  arithmetic makes, without the network's.

Then the graph that `osr export --onnx` writes of the run's own detector, beside `OpenSetClassifier.judge` in
the same process, in turns, both with one thread: seconds are of the processor, and the ratio is the median
over the turns.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import ExportedProgram

from osr.detectors.base import Detector
from osr.detectors.registry import DETECTORS, build_detectors
from osr.detectors.tracing import Traced
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.graph import ClassifierGraph, check_recordable
from osr.inference.graph_files import describe, record, translated, write_onnx
from osr.inference.judgement import Decision, Judgement
from osr.metrics.conformal import fit_threshold
from osr.outputs import Outputs
from osr.params import load_params
from osr.splits.split import Split
from pipeline.images import open_images
from pipeline.serving.predict import load_classifier
from pipeline.workspace.stages import PARAMS, SPLIT, TRAIN_OUTPUTS, VAL_OUTPUTS

NUM_IMAGES = 10_000
BATCH = 512
MANY = 2 * BATCH  # images whose throughput is measured
TURNS = 11
ALLOWED = 1e-4
FIELDS = tuple(entry.name for entry in fields(Traced))  # the first three have a row for each image
NETWORK = ("logits", "features")
Arrays = dict[str, NDArray[Any]]
COUNT = torch.export.Dim("num_images", min=1)


class EveryScore(ClassifierGraph):
    """The graph of a run that gives the scores of many detectors instead of one verdict."""

    def __init__(self, classifier: OpenSetClassifier, detectors: dict[str, Detector]) -> None:
        super().__init__(classifier.parts, classifier.detector)
        self.detectors = detectors

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """(N,) float64 scores by name, and what the network gives."""
        traced = self.outputs(images)
        scores = {name: detector.score_traced(traced) for name, detector in self.detectors.items()}
        return scores | {name: getattr(traced, name) for name in NETWORK}


class ScoresOfOutputs(nn.Module):
    """The same detectors, given what the network gave."""

    def __init__(self, detectors: dict[str, Detector]) -> None:
        super().__init__()
        self.detectors = detectors

    def forward(
        self, logits: Tensor, features: Tensor, extra_logits: Tensor, weight: Tensor, bias: Tensor
    ) -> dict[str, Tensor]:
        """(N,) float64 scores by name."""
        traced = Traced(logits, features, extra_logits, weight, bias)
        return {name: detector.score_traced(traced) for name, detector in self.detectors.items()}


def fitted_detectors() -> dict[str, Detector]:
    """All that can be fitted on the run's training outputs and have a graph."""
    settings, train, found = load_params(PARAMS).detectors, Outputs.load(TRAIN_OUTPUTS), {}
    for name in DETECTORS:
        detector = build_detectors(settings.model_copy(update={"enabled": (name,)}))[name]
        try:
            check_recordable(detector)
            found[name] = detector.fit(train)
        except InputError as error:
            print(f"{name} is left out: {error}")
    return found


def every_score(
    classifier: OpenSetClassifier, detectors: dict[str, Detector], images: NDArray[np.uint8]
) -> Arrays:
    """What the graph says in ONNX Runtime, (N,) each."""
    graph, first = EveryScore(classifier, detectors), torch.from_numpy(images[:2])
    with torch.no_grad():
        program = torch.export.export(graph, (first,), dynamic_shapes={"images": {0: COUNT}})
    return answers(program, {"images": images}, {}, [*detectors, *NETWORK])


def scores_of_outputs(detectors: dict[str, Detector], outputs: Outputs) -> Arrays:
    """What ONNX Runtime says where it is given the library's own outputs, (N,) each."""
    common = {name: np.ascontiguousarray(getattr(outputs, name)) for name in FIELDS}
    each = {name: common.pop(name) for name in FIELDS[:3]}
    first = tuple(map(torch.from_numpy, (*(array[:2] for array in each.values()), *common.values())))
    shapes = tuple({0: COUNT} if name in each else {} for name in FIELDS)
    with torch.no_grad():
        program = torch.export.export(ScoresOfOutputs(detectors), first, dynamic_shapes=shapes)
    return answers(program, each, common, list(detectors))


def answers(program: ExportedProgram, each: Arrays, common: Arrays, names: list[str]) -> Arrays:
    """What a program says in ONNX Runtime of arrays with a row for each image, 64 at once."""
    session, parts = session_of(translated(program, [*each, *common], names).SerializeToString()), []
    for row in range(0, len(next(iter(each.values()))), 64):
        given = {name: array[row : row + 64] for name, array in each.items()}
        parts.append(session.run(None, given | common))
    return dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def compare(classifier: OpenSetClassifier, images: NDArray[np.uint8]) -> None:
    """Print a line for each detector: labels that differ, and the largest errors of a score."""
    detectors, validation = fitted_detectors(), Outputs.load(VAL_OUTPUTS)
    found, own = every_score(classifier, detectors, images), classifier.outputs(images)
    alone = scores_of_outputs(detectors, own)
    for name in NETWORK:
        gap = np.linalg.norm(found[name] - getattr(own, name), axis=1)
        share = gap / np.linalg.norm(getattr(own, name), axis=1)
        print(f"{name} differ by {np.median(share):.1e} of their length, {share.max():.1e} at most")
    print(
        "\n| detector | other labels | relative error | to the score itself | images above 1e-4 "
        "| the same features |\n|---|---|---|---|---|---|"
    )
    for name, detector in detectors.items():
        expected, scores, known = detector.score(own), found[name], detector.score(validation)
        theta = fit_threshold(known, target_acceptance=0.95).value
        prediction = found["logits"].argmax(1)
        differ = (prediction != own.predictions) | ((scores <= theta) != (expected <= theta))
        spread = float(np.subtract(*np.quantile(known, (0.75, 0.25))))
        itself = relative(scores, expected)
        told = (
            f"{np.count_nonzero(differ)} of {len(images):,}",
            f"{relative(scores, expected, spread).max():.1e}",
            f"{itself.max():.1e}",
            f"{np.count_nonzero(itself > ALLOWED):,}",
            f"{relative(alone[name], expected).max():.1e}",
        )
        print(f"| {name} | {' | '.join(told)} |", flush=True)


def relative(
    found: NDArray[np.float64], expected: NDArray[np.float64], spread: float = 0.0
) -> NDArray[np.float64]:
    """(N,) errors beside the score, or beside `spread` where that is larger; 0 where both are equal."""
    gap, size = np.abs(found - expected), np.maximum(np.abs(expected), spread)
    return np.divide(gap, size, out=np.where(gap > 0, np.inf, 0.0), where=size > 0)


def session_of(graph: bytes | str) -> Any:
    """An ONNX Runtime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def turns(eager: Callable[[], Any], graph: Callable[[], Any], count: int) -> tuple[float, float, float]:
    """Median seconds of each, in turns, and the median of eager over graph."""
    eager(), graph()
    pairs = []
    for _ in range(count):
        times = []
        for call in (eager, graph):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
        pairs.append(times)
    seconds = np.array(pairs)
    return (*np.median(seconds, axis=0).tolist(), float(np.median(seconds[:, 0] / seconds[:, 1])))


def speed(classifier: OpenSetClassifier, images: NDArray[np.uint8], path: Path) -> None:
    """Print labels, scores and seconds of the exported graph beside the library."""
    program = record(classifier.parts, classifier.detector)
    write_onnx(path, program, describe(classifier.parts, classifier.detector, BATCH))
    session, wanted = session_of(str(path)), ["label", "score"]

    def eager(count: int) -> Judgement:
        return classifier.judge(images[:count], Decision())

    def graph(count: int) -> list[Any]:
        parts = [
            session.run(wanted, {"images": images[r : min(r + BATCH, count)]}) for r in range(0, count, BATCH)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    expected, (label, score) = eager(len(images)), graph(len(images))
    known = np.where(np.array(expected.labels) == "unknown", -1, expected.predictions)
    error = np.abs(score / expected.scores - 1).max()
    differ = np.count_nonzero(label != known)
    print(
        f"\n{path.name} of {classifier.detector}, {path.stat().st_size / 1e6:.0f} MB: {differ} of "
        f"{len(images):,} labels differ, largest relative error of a score {error:.1e}\n\n"
        "| images at once | PyTorch | ONNX Runtime | PyTorch / ONNX Runtime |\n|---|---|---|---|"
    )
    for count, repeats in ((1, 10 * TURNS), (64, TURNS), (min(MANY, len(images)), 3)):
        took = turns(lambda n=count: eager(n), lambda n=count: graph(n), repeats)
        told = [
            f"{1000 * seconds:.2f} ms" if count < 1000 else f"{count / seconds:.0f} a second"
            for seconds in took[:2]
        ]
        print(f"| {count:,} | {told[0]} | {told[1]} | {took[2]:.2f} |", flush=True)


def test_images(split: Split, count: int) -> NDArray[np.uint8]:
    """(count, H, W, C) test images of one size; those that come again are under noise of growing strength."""
    pixels, draws = open_images(), np.random.default_rng(0)
    rows = np.resize(split.test, count)
    images = np.stack([pixels[row] for row in rows]).astype(np.float64)
    again = np.arange(count) // len(split.test)
    images += draws.normal(size=images.shape) * (8 * again)[:, None, None, None]
    return images.round().clip(0, 255).astype(np.uint8)


def main() -> int:
    """Compare and time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="a folder with a finished run")
    parser.add_argument("--images", type=int, default=NUM_IMAGES, help="(%(default)s)")
    parser.add_argument("--only", choices=("scores", "speed"), help="one of the two parts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with contextlib.chdir(options.project), tempfile.TemporaryDirectory() as folder:
        params, split = load_params(PARAMS), Split.load(SPLIT)
        classifier = load_classifier(params)
        images = test_images(split, options.images)
        images = np.repeat(images, classifier.image_format.channels // images.shape[3], axis=3)
        print(
            f"{params.model.backbone.name}, {len(images):,} test images of {images.shape[1:]}, "
            f"one thread, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}\n"
        )
        if options.only != "speed":
            compare(classifier, images)
        if options.only != "scores":
            speed(classifier, images, Path(folder) / "classifier.onnx")
    return 0


if __name__ == "__main__":
    sys.exit(main())
