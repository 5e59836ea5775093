"""One network of each timm family trains a step, is saved and read, or is refused by name before that."""

from collections import defaultdict
from pathlib import Path

import pytest
import timm
import torch
from timm.models import _registry
from torch import Tensor, nn

from osr.errors import InputError
from osr.models import backbones
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.params import load_params

ROOT = Path(__file__).parents[1]
SMALL = ("test_", "atto", "femto", "pico", "nano", "xx", "tiny", "micro", "mini", "small", "18", "050", "_b0")
FEW = (
    "test_resnet",
    "test_vit",
    "test_convnext",
    "test_efficientnet",
    "test_byobnet",
    "test_mambaout",
    "efficientvit_m0",
)


def families() -> dict[str, str]:
    """A network of each of timm's modules, by its name a small one."""
    found = defaultdict(list)
    for name in timm.list_models():
        found[_registry._model_to_module[name]].append(name)

    def rank(name: str) -> tuple[int, int, str]:
        return next((place for place, part in enumerate(SMALL) if part in name), len(SMALL)), len(name), name

    return {family: min(names, key=rank) for family, names in found.items()}


def train_save_and_read(name: str, size: int, path: Path) -> None:
    settings = load_params(ROOT / "params.yaml").model
    backbone = settings.backbone.model_copy(update={"name": name, "weights": "none"})
    settings = settings.model_copy(update={"backbone": backbone, "image_size": size})
    model = OpenSetModel(settings, ImageFormat(size, 3, (0.5,) * 3, (0.5,) * 3), ("a", "b"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    nn.functional.cross_entropy(model.train()(images)[0], torch.tensor([0, 1])).backward()
    optimizer.step()
    model.save(path)
    with torch.inference_mode():
        expected = model.eval()(images)[0]
        torch.testing.assert_close(OpenSetModel.load(path)(images)[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", FEW)
def test_a_few_networks(tmp_path: Path, name: str) -> None:
    train_save_and_read(name, 64, tmp_path / "model.safetensors")


class Tied(nn.Module):
    """Two layers of the same weights, a buffer that is a part of another, and a bound that does not bind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.arange(1.0, 9.0))
        self.register_buffer("part", self.scale[2:4])
        self.register_buffer("bound", torch.tensor([-torch.inf, torch.inf]))

    def forward(self, images: Tensor) -> Tensor:
        features = self.second(self.first(images).clamp(*self.bound)).mean(dim=(2, 3))
        return features * self.part.sum() * self.scale.sum()


def test_tied_weights_and_endless_bounds_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones.BACKBONES, "tied", Tied)
    train_save_and_read("tied", 8, tmp_path / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(families()))
def test_one_network_of_each_family(tmp_path: Path, family: str) -> None:
    name = families()[family]
    published = timm.get_pretrained_cfg(name)
    size = published.input_size[-1] if published else 224
    refused = []
    for tried in (224, size) if size > 256 else (size,):  # attention over more pixels takes gigabytes
        try:
            train_save_and_read(name, tried, tmp_path / "model.safetensors")
        except InputError as error:
            assert not (tmp_path / "model.safetensors").exists()
            refused.append(str(error))
        else:
            return
    assert all(repr(name) in said for said in refused), refused
