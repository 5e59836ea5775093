"""The file of a model rebuilds it, is no pickle, and is refused where it is damaged or of another model."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import NAMES, build, model_settings, pictures
from tampering import rewrite

from osr.errors import InputError
from osr.models.backbones import build_backbone
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat


def test_a_file_rebuilds_the_model(tmp_path: Path) -> None:
    colour = ImageFormat(12, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    model = build(image_format=colour, neck="linear", bias=False, size=12)
    model(pictures(6, 3, 12))  # moves the batch norm's statistics
    model.eval().save(tmp_path / "model.safetensors")
    torch.manual_seed(7)
    loaded = OpenSetModel.load(tmp_path / "model.safetensors")
    assert not loaded.training
    settings = model_settings(neck="linear", bias=False, size=12, stem=False)  # of auto what it came to
    assert (loaded.settings, loaded.image_format, loaded.class_names) == (settings, colour, NAMES)
    images = pictures(4, 3, 12)
    for mine, theirs in zip(model(images), loaded(images), strict=True):
        assert torch.equal(mine, theirs)


def test_the_file_is_the_same_each_time_and_holds_no_pickle(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("first", "again", "rebuilt")]
    model = build(neck="linear").eval()
    model.save(paths[0])
    model.save(paths[1])
    OpenSetModel.load(paths[0]).save(paths[2])
    contents = [path.read_bytes() for path in paths]
    assert contents[0] == contents[1] == contents[2]
    # A JSON header after its length in 8 bytes, then the numbers, and nothing else.
    (header,) = struct.unpack("<Q", contents[0][:8])
    assert contents[0][8 : 8 + header].startswith(b'{"__metadata__":{"osr":')
    num_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
    assert len(contents[0]) == 8 + header + num_bytes
    assert load_file(paths[0]).keys() == model.state_dict().keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_model_from_a_local_file_needs_that_file_no_more(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(
        build_backbone("small_convnet", weights="none", channels=1, image_size=8).state_dict(), weights
    )
    model = build(weights=str(weights)).eval()
    model.save(tmp_path / "model.safetensors")
    weights.unlink()
    loaded = OpenSetModel.load(tmp_path / "model.safetensors")
    assert torch.equal(model(pictures(2))[0], loaded(pictures(2))[0])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["settings"]["head"].pop("bias"), "the key 'settings.head.bias' is missing"),
        (lambda d: d["settings"]["head"].update(odd=1), "unknown key 'settings.head.odd'"),
        (lambda d: d.pop("image_format"), "the key 'image_format' is missing"),
        (lambda d: d["image_format"].update(std=[0]), r"image_format.std\[0\] is 0, but must be above 0"),
        (lambda d: d["image_format"].update(mean=[0.1, 0.2]), "one number for each of 1 channels"),
        (lambda d: d["image_format"].update(size=1 << 40), "image_format.size is .* at most 8192"),
        (lambda d: d.update(class_names="abc"), "class_names is 'abc', but must be a list"),
        (lambda d: d.update(class_names=["a", "b", "a"]), "each name once, not several times a"),
        (lambda d: d.update(class_names=["a", "b"]), "size mismatch for head"),
    ],
)
def test_a_file_of_another_version(change: Callable[[dict], None], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    build().save(path)
    rewrite(path, change)
    with pytest.raises(InputError, match=rf"model.safetensors .*another version of osr.*{sentence}"):
        OpenSetModel.load(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("head.weight"), "Missing key"),
        (lambda s: s.update(odd=np.ones(2, np.float32)), "Unexpected key"),
        (lambda s: s.update({"head.weight": s["head.weight"][:1]}), "size mismatch for head.weight"),
        (
            lambda s: s.update({"head.weight": s["head.weight"].astype(np.int32)}),
            "weight holds torch.int32, but must",
        ),
        (lambda s: s["head.weight"].fill(np.nan), "head.weight holds values that are not finite"),
    ],
)
def test_weights_of_another_kind(change: Callable[[dict], None], sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    build().save(path)
    rewrite(path, change_arrays=change)
    with pytest.raises(InputError, match=rf"model.safetensors .*{sentence}"):
        OpenSetModel.load(path)


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match="is missing: run `dvc repro`"):
        OpenSetModel.load(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(InputError, match="was not written by osr"):
        OpenSetModel.load(path)
    build().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(InputError, match="was changed after osr wrote it, or was not written whole"):
        OpenSetModel.load(path)
    for content in (b"garbage" * 99, b"", whole[:50], bytes(8)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            OpenSetModel.load(path)
