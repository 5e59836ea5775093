"""Every shipped preset of a training learns for two epochs on a small slice of real images."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from datasets import SHARED
from numpy.typing import NDArray
from PIL import Image

from osr.data.batches import ArrayImages
from osr.inference.extraction import extract
from osr.losses.registry import LOSSES, build_loss, check_background
from osr.models.backbones import build_backbone
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.outputs import BACKGROUND
from osr.params import Params, check_params
from osr.settings.reading import read_yaml
from osr.splits.classes import choose_classes
from osr.training.freezing import freeze_backbone
from osr.training.frozen import features_of, probe
from osr.training.loop import train
from pipeline.experiments.named import names_in
from pipeline.experiments.overrides import merge
from pipeline.experiments.preset import load_presets

ROOT = Path(__file__).parents[1]
# Pixels for networks that cannot take 16: patches of 16 and 14 pixels.
SIZES = {
    "vit_tiny_patch16_224": 32,
    "vit_small_patch14_dinov2": 28,
    "vit_small_patch16_224": 32,
    "convnext_tiny": 32,
}
BEHIND = {"small_photos": ("photos_tune",)}  # presets that need another before them
# Large networks of families that a smaller one stands for.
SLOW = ("cifar10_resnet50_energy", "openood_resnet18", "cifar10_8_2_resnet18")
IMAGES, EPOCHS = 48, 2
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def presets_of_trainings() -> list[str]:
    contents = {name: read_yaml(ROOT / "presets" / f"{name}.yaml") for name in names_in(ROOT / "presets")}
    return [name for name, content in contents.items() if {"model", "train"} & content.keys()]


@pytest.fixture(scope="module")
def cifar() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first 1,000 images of CIFAR-10's test part."""
    folder = SHARED / "data" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    tiles = np.asarray(Image.open(folder / "test_batch.webp").crop((0, 0, 3200, 320)).convert("RGB"))
    images = tiles.reshape(10, 32, 100, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    return images, np.load(folder / "labels.npz")["y_test"][:1000].astype(np.int64)


@pytest.fixture(scope="module")
def mnist() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first 1,000 test images of MNIST."""
    folder = SHARED / "data" / "MNIST" / "raw"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(16 + 784 * 1000)[16:], np.uint8).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        return images, np.frombuffer(file.read(8 + 1000)[8:], np.uint8).astype(np.int64)


def small(params: Params, tmp_path: Path) -> Params:
    """The same training with fewer epochs and images, smaller if the network allows, weights from a file."""
    backbone = params.model.backbone
    size = SIZES.get(backbone.name, 16)
    if backbone.weights == "pretrained":
        weights = tmp_path / "weights.pth"
        made = build_backbone(backbone.name, weights="none", channels=3, image_size=size)
        torch.save(made.state_dict(), weights)
        backbone = backbone.model_copy(update={"weights": str(weights)})
    changes = {"epochs": EPOCHS, "warmup_epochs": min(1, params.train.warmup_epochs), "batch_size": 24}
    changes["precision"] = "32-true"  # without the instructions for it, bfloat16 takes ten times as long
    return params.model_copy(
        update={
            "model": params.model.model_copy(update={"image_size": size, "backbone": backbone}),
            "train": params.train.model_copy(update=changes | {"accelerator": "cpu"}),
        }
    )


@pytest.mark.ci
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in presets_of_trainings()],
)
def test_a_preset_trains_and_its_network_is_extracted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(ROOT)
    content = merge(read_yaml(Path("params.yaml")), load_presets([*BEHIND.get(name, ()), name]))
    params = small(check_params(content, source=name), tmp_path)
    grey = params.dataset.name in ("digits", "mnist")
    images, targets = request.getfixturevalue("mnist" if grey else "cifar")
    names = tuple("0123456789") if grey else CIFAR10
    classes = choose_classes(params.split, params.dataset.name, names)
    labels = np.full(len(targets), -3)
    labels[np.isin(targets, classes.background)] = BACKGROUND
    for label, number in enumerate(classes.known):
        labels[targets == number] = label
    rows = np.flatnonzero(labels > -3)[:IMAGES]
    val = np.flatnonzero(labels >= 0)[-24:]
    pseudo = params.train.augmentation.pseudo_unknowns != "none"
    check_background(params.train.loss, int((labels[rows] == BACKGROUND).sum()), pseudo_unknowns=pseudo)

    torch.manual_seed(0)
    known = tuple(names[number] for number in classes.known)
    model = OpenSetModel(params.model, format_for(params.model, images[rows]), known)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    smoothing, head = params.train.label_smoothing, model.head
    counts = np.bincount(labels[rows][labels[rows] >= 0], minlength=len(known)).tolist()
    parts = [ArrayImages(images, chosen, torch.from_numpy(labels[chosen])) for chosen in (rows, val)]
    if params.train.is_frozen:
        options = {"batch_size": 24, "title": "test"}
        found = [features_of(model, part, device=torch.device("cpu"), **options) for part in parts]
        progress = probe(model, (found[0], labels[rows]), (found[1], labels[val]), params.train.probe)
    else:
        if params.train.regime == "tune_last":
            freeze_backbone(model, params.model.backbone.frozen_stages)
        progress = train(
            model,
            build_loss(
                params.train.loss, params.losses, label_smoothing=smoothing, head=head, class_counts=counts
            ),
            train_data=parts[0],
            val_data=parts[1],
            settings=params.train,
            checkpoint=tmp_path / "c.pt",
            num_extra=params.model.head.extra_classes,
            rotation_weight=params.losses.rotation.weight if params.model.rotation_head else 0.0,
            on_epoch=lambda _row, _rate: None,
        )
    assert [row["epoch"] for row in progress.history][:2] == [1, 2]
    check_learned(model, before, params)
    check_outputs(model, parts[1], val, params)


def check_learned(model: OpenSetModel, before: dict[str, torch.Tensor], params: Params) -> None:
    learned = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert any(key.startswith("head.") for key in learned)
    assert any(key.startswith("rotation.") for key in learned) == params.model.rotation_head
    assert any(key.startswith("backbone.") for key in learned) != params.train.is_frozen


def check_outputs(model: OpenSetModel, data: ArrayImages, rows: NDArray[np.int64], params: Params) -> None:
    device = torch.device("cpu")
    outputs = extract(model, data, index=rows, batch_size=24, device=device, title="test")
    assert outputs.logits.shape == (24, len(model.class_names))
    assert outputs.extra_logits.shape == (24, params.model.head.extra_classes)
    # Backbones of random weights tell images apart by little: a probe's terms are large and nearly cancel.
    terms = float((np.abs(outputs.features) @ np.abs(outputs.weight.T)).max())
    np.testing.assert_allclose(
        outputs.logits,
        outputs.features @ outputs.weight.T + outputs.bias,
        rtol=1e-3,
        atol=1e-3 + 1e-5 * terms,
    )


@pytest.mark.parametrize("family", ["resnet", "efficientnet", "vit", "dinov2", "convnext"])
def test_each_family_of_photos_is_probed(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    changes = load_presets(["photos_probe", f"photos_{family}"])
    params = small(check_params(merge(read_yaml(Path("params.yaml")), changes), source=family), tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
    labels = np.arange(8) % 2
    image_format = format_for(params.model, images)
    published = timm.get_pretrained_cfg(params.model.backbone.name)
    assert (image_format.mean, image_format.std) == (published.mean, published.std)
    assert (image_format.interpolation, image_format.crop_fraction) == ("bicubic", published.crop_pct)
    model = OpenSetModel(params.model, image_format, ("a", "b"))
    data = ArrayImages(images, np.arange(8), torch.from_numpy(labels))
    options = {"batch_size": 8, "title": "test"}
    features = features_of(model, data, device=torch.device("cpu"), **options)
    progress = probe(model, (features, labels), (features, labels), params.train.probe)
    assert progress.history[progress.best_epoch - 1]["val/accuracy"] == 1


def test_every_backbone_family_and_loss_has_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    shipped = read_yaml(Path("params.yaml"))
    chosen = [merge(shipped, load_presets([*BEHIND.get(name, ()), name])) for name in presets_of_trainings()]
    assert {content["train"]["loss"] for content in chosen} == set(LOSSES)
    backbones = {content["model"]["backbone"]["name"] for content in chosen}
    for family in ("resnet18", "resnet50", "efficientnet", "vit", "dinov2", "classifier32", "small_convnet"):
        assert any(family in name for name in backbones), family
