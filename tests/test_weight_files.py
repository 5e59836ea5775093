"""Local weights in the shapes people have them; tests/test_backbone_weights.py has those of our own."""

import argparse
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from osr.errors import InputError
from osr.models.weight_files import load_weights

WANTED, OTHER = 1.0, 2.0


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def weights(value: float, prefix: str = "") -> dict[str, torch.Tensor]:
    """Those of the network, every number of them `value`, and a classifier that nobody asked for."""
    own = {f"{prefix}{key}": torch.full_like(held, value) for key, held in network().state_dict().items()}
    return own | {f"{prefix}fc.weight": torch.zeros(5, 2)}


def without_counters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


SHAPES: dict[str, tuple[Any, str]] = {
    "plain": (weights(WANTED), ""),
    "state_dict": ({"state_dict": weights(WANTED), "epoch": 3}, "took state_dict"),
    "model": ({"model": weights(WANTED)}, "took model"),
    "any key": ({"something": weights(WANTED)}, "took something"),
    "two deep": ({"checkpoint": {"network": weights(WANTED)}}, "took network"),
    "data parallel": (weights(WANTED, "module."), "the prefix 'module.'"),
    "compiled": (weights(WANTED, "_orig_mod."), "the prefix '_orig_mod.'"),
    "lightning": ({"state_dict": weights(WANTED, "model."), "loops": {}}, "the prefix 'model.'"),
    "several": ({"state_dict": weights(WANTED, "module.backbone.")}, "the prefix 'module.backbone.'"),
    "average": (
        {"state_dict": weights(OTHER), "state_dict_ema": weights(WANTED)},
        "state_dict_ema (not state_dict)",
    ),
    "model_ema": ({"model": weights(OTHER), "model_ema": weights(WANTED)}, "model_ema (not model)"),
    "teacher": ({"student": weights(OTHER, "a."), "teacher": weights(WANTED, "a.")}, "teacher (not student)"),
    "half": ({key: value.half() for key, value in weights(WANTED).items()}, ""),
    "no counters": (without_counters(weights(WANTED)), ""),
    "a head of the same kind": (weights(WANTED) | {"0.weight": torch.full((4, 3), WANTED)}, ""),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_right_weights_are_found_and_a_choice_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shape: str, suffix: str
) -> None:
    content, said = SHAPES[shape]
    path, model = tmp_path / f"weights{suffix}", network()
    if suffix == ".pth":
        torch.save(content, path)
    elif all(isinstance(value, torch.Tensor) for value in content.values()):
        save_file(content, path)
    else:
        return
    caplog.set_level(logging.INFO, logger="osr")
    load_weights(model, path, "toy")
    for key, value in model.state_dict().items():
        assert key.endswith("num_batches_tracked") or bool((value == WANTED).all()), key
        assert value.dtype == network().state_dict()[key].dtype
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == bool(said)
    assert all(said in line for line in lines)


BROKEN: dict[str, tuple[Any, str]] = {
    "another network": ({"features.weight": torch.ones(3)}, "14 tensors missing, 0 of another shape"),
    "another width": (
        weights(WANTED) | {"0.weight": torch.ones(4, 1)},
        "0 tensors missing, 1 of another shape",
    ),
    "not finite": (
        weights(WANTED) | {"2.bias": torch.tensor([0.0, torch.nan])},
        "'2.bias' holds values that are",
    ),
    "pickled": (
        {"state_dict": weights(WANTED), "args": argparse.Namespace()},
        "holds objects of argparse.Namespace",
    ),
    "a list": ([torch.ones(3)], "holds no state dict: no tensor by name"),
}


@pytest.mark.parametrize("shape", BROKEN)
def test_what_does_not_fit_is_one_sentence_and_changes_nothing(tmp_path: Path, shape: str) -> None:
    content, sentence = BROKEN[shape]
    path, model = tmp_path / "weights.pth", network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        load_weights(model, path, "toy")
    told = str(caught.value)
    assert told.startswith(f"model.backbone.weights {str(path)!r}")
    assert sentence.replace("14", str(len(before))) in told
    assert "\n" not in told
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(InputError, match="is a pointer of Git LFS, not the file"):
        load_weights(network(), path, "toy")
