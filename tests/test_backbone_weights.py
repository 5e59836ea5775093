"""Weights of a backbone from a local file of our own, or published ones."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from osr.errors import InputError
from osr.models.backbones import build_backbone


@pytest.mark.parametrize(
    ("suffix", "wrapper"), [(".safetensors", None), (".pth", None), (".pth", "state_dict"), (".pth", "model")]
)
def test_local_weights_are_those_of_the_file(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    arguments = {"channels": 1, "image_size": 32}
    torch.manual_seed(1)
    saved = build_backbone("resnet18", weights="none", **arguments).state_dict()
    path, extra = tmp_path / f"weights{suffix}", {"fc.weight": torch.ones(2, 512)}
    if suffix == ".safetensors":
        save_file(saved | extra, path)
    else:
        torch.save(saved | extra if wrapper is None else {wrapper: saved | extra, "epoch": 3}, path)
    torch.manual_seed(2)
    loaded = build_backbone("resnet18", weights=str(path), **arguments).state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name]) for name in saved)


class Dangerous:
    """Unpickling it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.path),)


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    small = build_backbone("small_convnet", weights="none", channels=3, image_size=8).state_dict()
    one_missing = {name: small[name] for name in list(small)[1:]}
    trap = tmp_path / "trap"
    files: dict[str, tuple[Callable[[Path], object], str]] = {
        "shape.pth": (
            lambda p: torch.save(small, p),
            "does not fit .*: 0 tensors missing, 1 of another shape, first",
        ),
        "missing.safetensors": (
            lambda p: save_file(one_missing, p),
            ": 1 tensors missing, 0 of another shape, first",
        ),
        "values.pth": (
            lambda p: torch.save(dict.fromkeys(small, 1), p),
            "holds no state dict: no tensor by name",
        ),
        "tensor.pth": (lambda p: torch.save(torch.ones(3), p), "holds no state dict: no tensor by name"),
        "garbage.pth": (lambda p: p.write_bytes(b"garbage" * 99), "cannot be read as weights: it"),
        "garbage.safetensors": (
            lambda p: p.write_bytes(b"garbage" * 99),
            "cannot be read as weights: it",
        ),
        "empty.pth": (lambda p: p.write_bytes(b""), "cannot be read as weights: it"),
        "trap.pth": (
            lambda p: p.write_bytes(pickle.dumps(Dangerous(trap), protocol=2)),
            "holds objects of posix.mkdir beside weights, and reading these could run code",
        ),
        "none.pth": (lambda _: None, "no such file; or use none or pretrained"),
    }
    for name, (write, sentence) in files.items():
        path = tmp_path / name
        write(path)
        with pytest.raises(InputError, match=sentence) as error:
            build_backbone(
                "small_convnet", weights=str(path), channels=1 if "missing" not in name else 3, image_size=8
            )
        assert str(path) in str(error.value)
        assert str(error.value).startswith("model.backbone.weights ")
        assert "\n" not in str(error.value)
    assert not trap.exists()


@pytest.mark.parametrize(
    "error", [ConnectionError("no route to host"), FileNotFoundError("not in the cache\nmore")]
)
def test_pretrained_without_network(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("timm.models._hub.hf_hub_download", fail)
    monkeypatch.setattr("osr.models.hub.unreachable", lambda _: "")
    reason = str(error).splitlines()[0]
    with pytest.raises(InputError) as refused:
        build_backbone("resnet18", weights="pretrained", channels=3, image_size=32)
    assert str(refused.value) == (
        f"model.backbone.name 'resnet18': its weights could not be downloaded ({reason}); "
        "model.backbone.weights may also name a local file (`osr run -S model.backbone.weights=FILE`)."
    )


def test_our_own_backbones_have_no_published_weights() -> None:
    with pytest.raises(InputError, match="small_convnet has no published weights; use none or a file"):
        build_backbone("small_convnet", weights="pretrained", channels=1, image_size=8)
