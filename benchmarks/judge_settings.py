"""The settings of `benchmarks.judge`: which images, which classes, which network; their stored outputs.

A setting chooses the rule or confirms it; which does what was written here before any confirming one ran.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.recipe import settings as params_of
from osr.data.batches import ArrayImages, hash_seed
from osr.data.datasets import load_images
from osr.data.images import ImageSet
from osr.devices import set_cpu_threads
from osr.inference.extraction import extract, outputs_of
from osr.losses.registry import build_loss
from osr.models.computing import Computing
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.outputs import IntArray, Outputs
from osr.params import Params
from osr.splits.split import Split
from osr.training.frozen import features_of, probe
from osr.training.loop import train
from pipeline.prepare_split import divide

CPU = torch.device("cpu")
LITE0 = ("extraction.precision=bf16-mixed", "extraction.batch_size=128")
FROZEN = ("detectors.mahalanobis.normalize=true", "detectors.rmds.normalize=true")
CIFAR10 = (
    "dataset.name=arrays",
    "dataset.arrays.file=cifar10.npz",
    "dataset.arrays.images=x_train",
    "dataset.arrays.labels=y_train",
    "dataset.arrays.test_images=x_test",
    "dataset.arrays.test_labels=y_test",
    "split.lists_of=cifar10",
    "model.image_size=96",
)
FASHION = (
    "dataset.name=arrays",
    "dataset.arrays.file=fashion_mnist_40k.npz",
    "dataset.arrays.images=x",
    "dataset.arrays.labels=y",
    "dataset.arrays.class_names=classes",
    "model.image_size=64",
    "split.protocol=explicit",
)
GTSRB = (
    "dataset.name=arrays",
    "dataset.arrays.file=gtsrb32.npz",
    "dataset.arrays.images=x",
    "dataset.arrays.labels=y",
    "dataset.arrays.group=[y, track]",
    "model.image_size=64",
    "split.protocol=seed_40_3",
    "split.lists_of=gtsrb",
)
MNIST = ("dataset.name=mnist", "train.epochs=8")
# Classes that are unknown: the last four, the first four, and every other one of the first eight.
FASHION_UNKNOWN = {"first six": (6, 7, 8, 9), "last six": (0, 1, 2, 3), "mixed six": (0, 2, 4, 6)}


@dataclass(frozen=True)
class Setting:
    """One network on one choice of classes.

    Args:
        name: of the row.
        chooses: whether the rule may be chosen by it; otherwise it confirms.
        presets: of the repository.
        overrides: key=value.
        per_class: images of each class and published part that are kept, at most.
        pool: name of the features that several settings share; empty where the network is trained.
    """

    name: str
    chooses: bool
    presets: tuple[str, ...]
    overrides: tuple[str, ...]
    per_class: int
    pool: str = ""

    @property
    def regime(self) -> str:
        """`frozen`: the network did not see the classes that are left out; `trained`, `tuned`: it did."""
        return "frozen" if self.pool else "tuned" if self.presets else "trained"

    @property
    def confirms(self) -> bool:
        """Whether it was there when the rule was written down, and had no part in that."""
        return not self.chooses and not self.name.endswith(", unit")


def _frozen(name: str, pool: str, overrides: Sequence[str], per_class: int, *, chooses: bool) -> Setting:
    return Setting(name, chooses, ("photos_probe",), (*LITE0, *FROZEN, *overrides), per_class, pool)


def _fashion(unknown: Sequence[int]) -> tuple[str, ...]:
    known = [number for number in range(10) if number not in unknown]
    return (*FASHION, f"split.known={known}", f"split.unknown={list(unknown)}")


def _all() -> list[Setting]:
    found = [
        _frozen("CIFAR-10 8/2", "cifar10", [*CIFAR10, "split.protocol=seed_8_2"], 1000, chooses=True),
        *(
            _frozen(f"Fashion {name}", "fashion", _fashion(unknown), 2000, chooses=name == "first six")
            for name, unknown in FASHION_UNKNOWN.items()
        ),
        *(
            _frozen(f"CIFAR-10 A/{trial}", "cifar10", [*CIFAR10, f"split.trial={trial}"], 1000, chooses=False)
            for trial in range(5)
        ),
        _frozen("GTSRB 40/3", "gtsrb", GTSRB, 1000, chooses=False),
        *(Setting(f"digits A/{trial}", trial < 2, (), (f"split.trial={trial}",), 1000) for trial in range(5)),
    ]
    for protocol in "AB":
        for trial in range(5):
            overrides = (*MNIST, f"split.protocol={protocol}", f"split.trial={trial}")
            found.append(Setting(f"MNIST {protocol}/{trial}", False, (), overrides, 1000))
    tuned = ("photos_tune", "small_photos")
    for name, unknown in FASHION_UNKNOWN.items():
        overrides = (*LITE0, *_fashion(unknown), "model.image_size=56", "dataset.flip_safe=true")
        found.append(Setting(f"Fashion {name}, tuned", False, tuned, overrides, 1500))
        # Added when the tuned ones had been seen: Gaussians of normalised features there, too.
        found.append(Setting(f"Fashion {name}, tuned, unit", False, tuned, (*overrides, *FROZEN), 1500))
    found.append(Setting("GTSRB 40/3, tuned", False, tuned, (*LITE0, *GTSRB, "train.epochs=3"), 1000))
    small = (*LITE0, *CIFAR10, "model.image_size=64", "dataset.flip_safe=true")
    for trial in range(5):
        overrides = (*small, f"split.trial={trial}")
        found.append(Setting(f"CIFAR-10 A/{trial}, tuned", False, tuned, overrides, 1500))
    overrides = (*small, "split.protocol=seed_8_2")
    found.append(Setting("CIFAR-10 8/2, tuned", False, tuned, overrides, 1500))
    return found


SETTINGS = {setting.name: setting for setting in _all()}


@dataclass(frozen=True)
class Prepared:
    """The outputs of a setting.

    Args:
        params: all settings.
        train, val: known images; test: known and unknown ones.
        groups: (N,) of the test images; None where each stands for itself.
        accuracy: on the known test images.
    """

    params: Params
    train: Outputs
    val: Outputs
    test: Outputs
    groups: IntArray | None
    accuracy: float


def prepared(setting: Setting, *, data: Path, weights: Path, cache: Path) -> Prepared:
    """Train, or fit the probe, and pass every image through the network once."""
    places = (f"dataset.root={data}", "dataset.download=false")
    if setting.presets:
        places += (f"model.backbone.weights={weights}",)
    params = params_of(list(setting.presets), [*setting.overrides, *places])
    images = thinned(load_images(params.dataset), setting.per_class)
    split = divide(images, params)
    parts = {"train": split.known_rows("train"), "val": split.known_rows("val"), "test": split.test}
    set_cpu_threads(1)
    torch.manual_seed(hash_seed(params.train.seed, -1))
    computing = Computing(params.extraction.channels_last, params.extraction.precision == "bf16-mixed")
    image_format = format_for(params.model, images.images[split.train])
    model = OpenSetModel(params.model, image_format, split.known_names, computing=computing)
    if setting.pool:
        features = pooled(model, images, cache / f"{setting.pool}.npy", params)
        fitted = [(features[parts[name]], split.labels[parts[name]]) for name in ("train", "val")]
        probe(model, fitted[0], fitted[1], params.train.probe)
        outputs = [
            outputs_of(model, features[rows], labels=split.labels[rows], index=rows)
            for rows in parts.values()
        ]
    else:
        _train(model, images, split, params)
        outputs = [_outputs(model, images, split, rows, params) for rows in parts.values()]
    test = outputs[2]
    groups = None if split.groups is None else split.groups[split.test]
    return Prepared(params, *outputs, groups, float(test.correct[test.labels >= 0].mean()))


def thinned(data: ImageSet, per_class: int) -> ImageSet:
    """The first images of each class in each published part; of a class with groups all."""
    parts = np.zeros(len(data.targets), int) if data.parts is None else (data.parts == "test").astype(int)
    # 0.4 of the training images are enough to test with.
    limits = np.array([per_class, 0.4 * per_class])
    seen = np.zeros((len(data.class_names), 2), int)
    kept = []
    for row, place in enumerate(zip(data.targets, parts, strict=True)):
        seen[place] += 1
        if seen[place] <= limits[place[1]]:
            kept.append(row)
    changed = {name: getattr(data, name) for name in ("images", "targets", "parts", "groups", "hashes")}
    return replace(data, **{name: value if value is None else value[kept] for name, value in changed.items()})


def pooled(model: OpenSetModel, images: ImageSet, path: Path, params: Params) -> np.ndarray:
    """Features of all images, of which one pass serves every choice of classes."""
    if not path.is_file():
        data = _part(images, np.arange(len(images.targets)), images.targets)
        batch_size = params.extraction.batch_size
        found = features_of(model, data, batch_size=batch_size, device=CPU, title=path.stem)
        np.save(path, found, allow_pickle=False)
    return np.load(path, allow_pickle=False)


def _part(images: ImageSet, rows: IntArray, labels: IntArray) -> ArrayImages:
    return ArrayImages(images.images, rows, torch.from_numpy(labels))


def _train(model: OpenSetModel, images: ImageSet, split: Split, params: Params) -> None:
    smoothing = params.train.label_smoothing
    with tempfile.TemporaryDirectory() as folder:
        train(
            model,
            build_loss(params.train.loss, params.losses, label_smoothing=smoothing, head=model.head),
            train_data=_part(images, split.train, split.labels[split.train]),
            val_data=_part(images, split.known_rows("val"), split.labels[split.known_rows("val")]),
            settings=params.train,
            checkpoint=Path(folder) / "state.pt",
            on_epoch=lambda _row, _rate: None,
        )


def _outputs(model: OpenSetModel, images: ImageSet, split: Split, rows: IntArray, params: Params) -> Outputs:
    data, batch_size = _part(images, rows, split.labels[rows]), params.extraction.batch_size
    return extract(model, data, index=rows, batch_size=batch_size, device=CPU, title="forward pass")
