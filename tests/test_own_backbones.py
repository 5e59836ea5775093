"""A torch module class of the user's own as the backbone, and what may import it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import build, model_settings, pictures
from torch import Tensor, nn

from osr.errors import InputError
from osr.models.backbones import build_backbone
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import format_for
from osr.settings.own_code import source_of


class Tiny(nn.Module):
    """A backbone as a user would write it."""

    def __init__(self, channels: int, image_size: int, width: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def test_a_class_of_the_user_is_a_backbone(tmp_path: Path) -> None:
    model = build(backbone=f"{__name__}:Tiny", options={"width": 7}).eval()
    logits, features = model(pictures(4))
    assert features.shape == (4, 7)
    model.save(tmp_path / "model.safetensors")
    for allowed in (None, "other:Tiny", __name__):
        with pytest.raises(InputError, match=f"needs code .* '{__name__}:Tiny', and importing"):
            OpenSetModel.load(tmp_path / "model.safetensors", allow_code=allowed)
    loaded = OpenSetModel.load(tmp_path / "model.safetensors", allow_code=f"{__name__}:Tiny")
    assert torch.equal(loaded(pictures(4))[0], logits)
    assert format_for(
        model_settings(backbone=f"{__name__}:Tiny", weights="f"), np.ones((2, 8, 8, 1), np.uint8)
    )
    assert source_of(f"{__name__}:Tiny") == Path(__file__).read_bytes()
    for name in ("resnet18", "no_such_module_at_all:Tiny", "no.such:Tiny", "sys:Tiny", ":Tiny"):
        assert source_of(name) == b""


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "no_such_module_at_all:Tiny",
            {},
            "the module 'no_such_module_at_all' cannot be imported (No module",
        ),
        (f"{__name__}:Tinny", {}, f"has no torch module class 'Tinny'; did you mean {__name__}:Tiny?"),
        ("subprocess:Popen", {"args": ["true"]}, "'subprocess' has no torch module class 'Popen'"),
        (":Tiny", {}, "the module '' cannot be imported"),
        (f"{__name__}:Tiny", {"depth": 3}, "must be a class that takes the keys of model.backbone.options"),
        ("resnet18", {"depth": 3}, "is {'depth': 3}, but must be {} for resnet18: only a class of your own"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused(name: str, options: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        build_backbone(name, weights="none", channels=1, image_size=8, options=options)
    assert str(error.value).startswith("model.backbone.")
    assert sentence in str(error.value)


@pytest.mark.parametrize("changes", [{"weights": "pretrained"}, {"small_image_stem": True}])
def test_a_class_of_the_user_has_neither_published_weights_nor_a_stem(changes: dict) -> None:
    arguments = {"weights": "none", "channels": 1, "image_size": 8} | changes
    with pytest.raises(InputError, match=r"has no (published weights|stem)"):
        build_backbone(f"{__name__}:Tiny", **arguments)


def test_a_module_is_imported_only_when_its_source_has_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the module would do when it is imported has not been done."""
    monkeypatch.syspath_prepend(str(tmp_path))
    acts = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
    (tmp_path / "package_of_mine").mkdir()
    (tmp_path / "package_of_mine/__init__.py").write_text(acts)
    for module in ("acting_module", "package_of_mine.acting"):
        file = tmp_path / f"{module.replace('.', '/')}.py"
        file.write_text(f"{acts}class Net: ...\n")
        with pytest.raises(InputError, match=f"'{module}' has no torch module class 'Nett'; did you mean"):
            build_backbone(f"{module}:Nett", weights="none", channels=1, image_size=8)
        assert not list(tmp_path.rglob("*.ran"))
        with pytest.raises(InputError, match=f"'{module}' has no torch module class 'Net'"):
            build_backbone(f"{module}:Net", weights="none", channels=1, image_size=8)  # no nn.Module
        assert file.with_suffix(".ran").exists()
        for ran in tmp_path.rglob("*.ran"):
            ran.unlink()


def test_a_class_may_come_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = {
        "named": f"from {__name__} import Tiny as Net\n",
        "starred": f"from {__name__} import *\nNet = globals().pop('Tiny')\n",
        "made": f"import {__name__} as here\nif True:\n    Net = here.Tiny\n",
        "asked_for": f"def __getattr__(name):\n    import {__name__} as here\n    return here.Tiny\n",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}_of_mine.py").write_text(source)
        arguments = {"weights": "none", "channels": 1, "image_size": 8, "options": {"width": 3}}
        assert isinstance(build_backbone(f"{name}_of_mine:Net", **arguments), Tiny)
