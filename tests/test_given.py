"""Regime none: a network that somebody trained elsewhere gives the same logits here."""

import hashlib
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from ruamel.yaml import YAML
from small_models import NAMES, build, model_settings, pictures
from torch import nn
from torchvision import models

from osr.errors import InputError
from osr.models.given import give_head, given_model
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.params import check_params
from osr.stored.origin import Origin
from pipeline import train
from pipeline.experiments.overrides import merge
from pipeline.prepare_split import prepare_split
from pipeline.starting.fit import settings_of
from pipeline.tracking.mirror import initial_weights
from pipeline.tracking.stage_run import Row
from pipeline.workspace.files import write_json
from pipeline.workspace.stages import MODEL, STAGES, WEIGHTS
from pipeline.workspace.swap import new, written_aside

ROOT = Path(__file__).parents[1]
TINY = "test_efficientnet"
FORMAT = ImageFormat(32, 3, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
HERE = Origin(split="0" * 16)


class Net(nn.Module):
    """A classifier as somebody would write it."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 10), nn.ReLU())
        self.out = nn.Linear(10, num_classes, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.body(images))


def network(name: str, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(3)
    if name == "mobilenet_v3_small":
        return models.get_model(name, num_classes=num_classes)
    return Net(num_classes) if name == "Net" else timm.create_model(name, num_classes=num_classes)


CASES = {
    TINY: (TINY, {}),
    "mobilenet_v3_small": ("torchvision.models:mobilenet_v3_small", {"num_classes": 3}),
    "Net": (f"{__name__}:Net", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_the_given_network(tmp_path: Path, case: str) -> None:
    name, options = CASES[case]
    given = network(case).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in given.state_dict().items()}}, tmp_path / "w.pth")
    settings = model_settings(
        backbone=name,
        weights=str(tmp_path / "w.pth"),
        classifier="auto" if ":" in name else "none",
        options=options,
    )
    model = OpenSetModel(settings, FORMAT, NAMES, made_from=HERE).eval()
    give_head(model)
    images = pictures(3, 3, 32)
    with torch.no_grad():
        wanted = given(model.preprocess(images))
        logits, features = model(images)
        torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
        model.save(tmp_path / "model.safetensors")
        again = OpenSetModel.load(tmp_path / "model.safetensors", allow_code=name)
        torch.testing.assert_close(again(images)[0], logits)
        assert features.shape[1] == model.head.weight.shape[1]


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    torch.save(network("Net", 4).state_dict(), tmp_path / "w.pth")
    settings = model_settings(
        backbone=f"{__name__}:Net",
        weights=str(tmp_path / "w.pth"),
        classifier="out",
        options={"num_classes": 4},
    )
    with pytest.raises(
        InputError, match="tells 4 classes apart, but must tell the 3 known ones, in this order: c"
    ):
        give_head(OpenSetModel(settings, FORMAT, NAMES))
    torch.save(network(TINY, 4).state_dict(), tmp_path / "w.pth")
    timms = OpenSetModel(model_settings(backbone=TINY, weights=str(tmp_path / "w.pth")), FORMAT, NAMES)
    with pytest.raises(
        InputError, match=f"does not fit {TINY} with 3 classes: 0 tensors missing, 2 of another"
    ):
        give_head(timms)


def test_a_layer_that_is_not_there_is_refused() -> None:
    settings = model_settings(backbone=f"{__name__}:Net", classifier="head")
    with pytest.raises(
        InputError, match=r"classifier is 'head', but must be auto or a linear layer .*: body.2, out"
    ):
        OpenSetModel(settings, FORMAT, NAMES)
    with pytest.raises(InputError, match="classifier is 'auto', but must be 'none' for resnet18"):
        OpenSetModel(model_settings(backbone="resnet18", classifier="auto"), FORMAT, NAMES)
    with pytest.raises(
        InputError, match=r"no classifier 'resnet81'; did you mean torchvision.models:resnet18\?"
    ):
        OpenSetModel(model_settings(backbone="torchvision.models:resnet81"), FORMAT, NAMES)


def test_our_own_model_is_taken_whole_if_it_knows_the_same_classes(tmp_path: Path) -> None:
    model = build(neck="linear", head="cosine", bias=False).eval()
    path = tmp_path / "model.safetensors"
    model.save(path)
    taken = given_model(path, NAMES, HERE, "small_convnet")
    assert taken is not None
    assert torch.equal(taken(pictures(2))[0], model(pictures(2))[0])
    assert taken.made_from == HERE
    for names, name, sentence in (
        (NAMES[::-1], "small_convnet", "knows cat, dog, frog, but the known classes are frog, dog, cat"),
        (NAMES, "resnet18", "model.backbone.name is 'resnet18', but must be 'small_convnet'"),
    ):
        with pytest.raises(InputError, match=sentence):
            given_model(path, names, HERE, name)
    torch.save(network("Net").state_dict(), tmp_path / "w.pth")
    assert given_model(tmp_path / "w.pth", NAMES, HERE, "x") is None


def test_osr_fit_says_what_the_pipeline_does_without_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "photos.npz", images=noise, labels=np.repeat(["cat", "dog", "frog"], 20))
    given = network(TINY).eval()
    torch.save(given.state_dict(), tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    options = Namespace(model=TINY, data=Path("photos.npz"), weights="w.pth")
    content = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    content = merge(content, settings_of(options))
    content["model"]["image_size"] = 32
    params = check_params(content, source="osr fit")
    prepare_split(params, None)
    with written_aside("train"):
        metrics = train.train_stage(params, Row())
        write_json(new(STAGES["train"].metrics), metrics)
        assert not MODEL.exists()
    model = OpenSetModel.load(WEIGHTS)
    with torch.no_grad():
        images = torch.from_numpy(noise[:4].transpose(0, 3, 1, 2).copy())
        torch.testing.assert_close(model(images)[0], given(model.preprocess(images)), rtol=1e-4, atol=1e-5)
    assert metrics["best"]["epoch"] == 1
    digest = hashlib.sha256(Path("w.pth").read_bytes()).hexdigest()
    assert initial_weights() == {"osr.initial_weights": f"{tmp_path.resolve() / 'w.pth'} sha256:{digest}"}
    with pytest.raises(InputError, match=r"--weights no\.pth: no such file"):
        settings_of(Namespace(model=TINY, data=Path("photos.npz"), weights="no.pth"))
    with pytest.raises(InputError, match="nowhere does not exist"):
        settings_of(Namespace(model=TINY, data=Path("nowhere"), weights="none"))
