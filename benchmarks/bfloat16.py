"""What bfloat16 features change in the scores and verdicts of a finished run.

    python -m benchmarks.bfloat16 [--images N]

To be run in a project with a finished run whose images are arrays, with unknown test images. N training,
N / 2 validation and N test images pass the network again with every convolution, linear layer and activation
rounded to bfloat16 and sums in float32, as processors with bfloat16 units compute under autocast; others take
ten times as long for autocast itself, so only the first 32 images pass through that, to see that the rounding
is the same. The head stays. Each detector of the run is fitted on the training images of either kind, its
threshold made from the validation images of that kind at 95 %, and judges the test images of that kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from osr.data.batches import ArrayImages
from osr.data.images import ImageFiles
from osr.detectors.registry import build_detectors
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.metrics.conformal import fit_threshold
from osr.metrics.open_set import open_set_metrics
from osr.models.computing import Computing
from osr.models.open_set_model import OpenSetModel
from osr.outputs import Outputs
from osr.params import load_params
from osr.splits.split import Split
from pipeline.images import open_images
from pipeline.workspace.stages import PARAMS, SPLIT, TEST_OUTPUTS, TRAIN_OUTPUTS, VAL_OUTPUTS, WEIGHTS

FEW = 32


def rounded(value: Any) -> Any:
    """A tensor with the precision of bfloat16, in float32; else the same."""
    return value.bfloat16().float() if isinstance(value, Tensor) and value.is_floating_point() else value


@contextmanager
def in_bfloat16(backbone: nn.Module) -> Iterator[None]:
    """What goes into and comes out of every layer is rounded, and so are its weights, but for norms."""
    hooks, kept = [], dict[Tensor, Tensor]()
    for module in backbone.modules():
        if next(module.children(), None) is None:
            hooks.append(module.register_forward_pre_hook(lambda _, given: tuple(map(rounded, given))))
            hooks.append(module.register_forward_hook(lambda _module, _given, made: rounded(made)))
        if isinstance(module, nn.Conv2d | nn.Linear):
            for weight in module.parameters(recurse=False):
                kept[weight] = weight.detach().clone()
                weight.data = rounded(weight.data)
    yield
    for hook in hooks:
        hook.remove()
    for weight, before in kept.items():
        weight.data = before


class Again:
    """Passes images through the network of the run once more."""

    def __init__(self) -> None:
        images = open_images()
        if isinstance(images, ImageFiles):
            raise InputError("This run's images are files, but must be arrays.")
        self.images, self.split, self.model = images, Split.load(SPLIT), OpenSetModel.load(WEIGHTS)

    def pass_of(self, earlier: Outputs, *, autocast: bool = False) -> Outputs:
        """The outputs of the same images in bfloat16, by autocast or by rounding."""
        rows = np.asarray(earlier.index)
        labels = torch.from_numpy(np.asarray(earlier.labels))
        self.model.computing = Computing(channels_last=True, in_bfloat16=autocast)
        data = ArrayImages(self.images, rows, labels)
        options = {"batch_size": 64, "device": torch.device("cpu"), "title": "bfloat16"}
        if autocast:
            return extract(self.model, data, index=rows, **options)
        with in_bfloat16(self.model.backbone):
            return extract(self.model, data, index=rows, **options)


def some(outputs: Outputs, count: int) -> Outputs:
    """At most so many of the images, drawn at random."""
    rows = np.sort(np.random.default_rng(0).permutation(len(outputs))[:count])
    return outputs.select(rows)


def distance(one: Outputs, other: Outputs) -> float:
    """The mean difference of the features, relative to their length."""
    apart = np.linalg.norm(one.features - other.features, axis=1)
    return float(np.mean(apart / np.linalg.norm(other.features, axis=1)))


def main() -> None:
    """Print how far the features move, then a line for each detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=2400, help="(%(default)s)")
    count = parser.parse_args().images
    counts = {TRAIN_OUTPUTS: count, VAL_OUTPUTS: count // 2, TEST_OUTPUTS: count}
    exact = [some(Outputs.load(folder), number) for folder, number in counts.items()]
    again = Again()
    few = exact[0].select(np.arange(FEW))
    cast, close = again.pass_of(few, autocast=True), again.pass_of(few)
    print(f"features move by {distance(cast, few):.2%} under autocast, by {distance(close, few):.2%} rounded")
    coarse = [again.pass_of(part) for part in exact]
    tested = exact[2].labels
    same = np.mean(coarse[2].predictions == exact[2].predictions)
    accuracy = [np.mean((part.predictions == tested)[tested >= 0]) for part in (exact[2], coarse[2])]
    print(
        f"{len(tested):,} test images; features move by {distance(coarse[2], exact[2]):.2%}; {same:.2%} keep"
    )
    print(f"the nearest class; accuracy {accuracy[0]:.4f} and {accuracy[1]:.4f}\n")
    print("| detector | AUROC, float32 | bfloat16 | other verdicts |\n|---|---:|---:|---:|")
    settings = load_params(PARAMS).detectors
    for name in settings.enabled:
        aurocs, verdicts = list[float](), list[np.ndarray]()
        for train, val, test in (exact, coarse):
            detector = build_detectors(settings.model_copy(update={"enabled": (name,)}))[name].fit(train)
            theta = fit_threshold(detector.score(val), target_acceptance=0.95).value
            scores, known = detector.score(test), tested >= 0
            correct = (test.predictions == tested)[known]
            aurocs.append(open_set_metrics(scores[known], correct, scores[~known])["auroc"])
            verdicts.append(np.where(scores <= theta, test.predictions, -1))
        other = np.mean(verdicts[0] != verdicts[1])
        print(f"| {name} | {aurocs[0]:.4f} | {aurocs[1]:.4f} | {other:.2%} |", flush=True)


if __name__ == "__main__":
    main()
