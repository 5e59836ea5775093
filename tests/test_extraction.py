"""Extraction: each image once, in order, in eval mode, whatever the batch size."""

import os
import signal
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from osr.data.batches import ArrayImages
from osr.detectors.registry import DETECTORS, build_detectors
from osr.detectors.settings import DetectorsSettings
from osr.devices import make_fabric, pick_device, set_cpu_threads
from osr.errors import InputError
from osr.inference import extraction
from osr.inference.extraction import IN_MEMORY, Stored, extract, outputs_of
from osr.models.heads import HEADS
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.models.settings import BackboneSettings, HeadSettings, ImageSettings, ModelSettings, NeckSettings
from osr.outputs import Outputs
from osr.params import load_params
from osr.stored.origin import Origin

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)
ROWS = np.array([7, 3, 29, 0, 11, 12, 5])
LABELS = np.array([0, 2, -1, 1, -2, 0, -1])


def build(
    *,
    neck: str = "linear",
    bias: bool = True,
    head: str = "linear",
    width: int = 5,
    extra: int = 0,
    temperature: float = 1.0,
    rotations: bool = False,
) -> OpenSetModel:
    torch.manual_seed(0)
    settings = ModelSettings(
        image_size="auto",
        image=ImageSettings(mean=(), std=(), interpolation="auto", crop_fraction="auto"),
        backbone=BackboneSettings(
            name="small_convnet",
            weights="none",
            small_image_stem="auto",
            frozen_stages="auto",
            classifier="none",
            options={},
        ),
        neck=NeckSettings(name=neck, width=width, tau=0.1),
        head=HeadSettings(name=head, bias=bias, scale=16.0, temperature=temperature, extra_classes=extra),
        rotation_head=rotations,
    )
    model = OpenSetModel(settings, ImageFormat(6, 1, (0.4,), (0.3,)), ("a", "b", "c"))
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))  # moves the batch norm's statistics
    return model


def data_of(images: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> ArrayImages:
    return ArrayImages(images, rows, torch.from_numpy(labels))


def outputs(
    model: OpenSetModel,
    *,
    rows: np.ndarray = ROWS,
    batch_size: int = 512,
    images: np.ndarray = IMAGES,
    stored: Stored = IN_MEMORY,
) -> Outputs:
    return extract(
        model,
        data_of(images, rows, LABELS[: len(rows)]),
        index=rows,
        batch_size=batch_size,
        device=CPU,
        title="test",
        stored=stored,
    )


def easy(without: set[str]) -> DetectorsSettings:
    """All detectors but some, for few images."""
    shipped = load_params(Path(__file__).parents[1] / "params.yaml").detectors
    return shipped.model_copy(
        update={
            "enabled": tuple(name for name in DETECTORS if name not in without),
            "openmax": shipped.openmax.model_copy(update={"tail_size": 6, "correct_only": False}),
            "knn": shipped.knn.model_copy(update={"num_neighbors": 3}),
            "nnguide": shipped.nnguide.model_copy(update={"num_neighbors": 3}),
        }
    )


def test_images_are_taken_in_the_order_of_the_rows() -> None:
    model = build()
    result = outputs(model, batch_size=3)
    assert_array_equal(result.index, ROWS)
    assert_array_equal(result.labels, LABELS)
    for position, row in enumerate(ROWS):
        with torch.no_grad():
            logits, features = model(torch.from_numpy(IMAGES[row].transpose(2, 0, 1)[None]))
        assert_allclose(result.logits[position], logits[0], rtol=1e-4, atol=1e-5)
        assert_allclose(result.features[position], features[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 6, 7, 8])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    whole, parts = outputs(build()), outputs(build(), batch_size=batch_size)
    assert_allclose(parts.logits, whole.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(parts.features, whole.features, rtol=1e-4, atol=1e-5)


def test_the_network_is_put_in_eval_mode_and_learns_nothing() -> None:
    model = build()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert model.training
    result = outputs(model)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert_array_equal(outputs(model).logits, result.logits)


@pytest.mark.parametrize("neck", ["identity", "linear", "tanh", "t2fnorm"])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_are_the_head_on_the_features(neck: str, bias: bool) -> None:
    model = build(neck=neck, bias=bias)
    result = outputs(model)
    assert result.features.shape == (7, 5 if neck == "linear" else 128)
    assert (
        result.logits.dtype == result.features.dtype == result.weight.dtype == result.bias.dtype == np.float32
    )
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-5)
    assert_array_equal(result.weight, model.head.weight.detach())
    assert bool(result.bias.any()) == bias


@pytest.mark.parametrize("bias", [True, False])
def test_extra_classes_stand_apart(bias: bool) -> None:
    model = build(bias=bias, extra=2, temperature=3.0)
    result = outputs(model, batch_size=3)
    assert (result.logits.shape, result.extra_logits.shape) == ((7, 3), (7, 2))
    assert (result.weight.shape, result.bias.shape, result.num_classes) == ((3, 5), (3,), 3)
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        logits, _ = model(torch.from_numpy(IMAGES[ROWS].transpose(0, 3, 1, 2)))
    assert_allclose(np.hstack([result.logits, result.extra_logits]), logits, rtol=1e-4, atol=1e-5)
    assert outputs(build()).extra_logits.shape == (7, 0)


@pytest.mark.parametrize("head", sorted(set(HEADS) - {"linear"}))
def test_every_head_is_linear_in_the_stored_features_and_every_detector_takes_it(head: str) -> None:
    model, rows = build(head=head, bias=False, width=24).train(), np.arange(30)
    images = IMAGES // (1 + 2 * (rows % 3)).astype(np.uint8)[:, None, None, None]  # three brightnesses
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        logits, _features = model(torch.from_numpy(images.transpose(0, 3, 1, 2)))
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows % 3)).backward()
        optimizer.step()
    result = extract(
        model, data_of(images, rows, rows % 3), index=rows, batch_size=8, device=CPU, title="test"
    )
    assert_allclose(result.logits, result.features @ result.weight.T + result.bias, rtol=1e-4, atol=1e-4)
    for detector in build_detectors(easy({"kplus1", "odin", "rotpred"})).values():
        assert np.isfinite(detector.fit(result).score(result)).all(), detector.name


def test_each_image_passes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes = build(), []
    embed: Callable[[Tensor], Tensor] = model.embed

    def counted(pixels: Tensor) -> Tensor:
        sizes.append(len(pixels))
        return embed(pixels)

    monkeypatch.setattr(model, "embed", counted)
    outputs(model, batch_size=3)
    assert sizes == [3, 3, 1]


def test_memory_mapped_images_and_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_array_equal(outputs(build(), images=mapped).logits, outputs(build()).logits)
    empty = outputs(build(), rows=np.empty(0, dtype=np.int64))
    assert empty.logits.shape == (0, 3)
    assert empty.features.shape == (0, 5)


def many(
    model: OpenSetModel, stored: Stored, *, rows: np.ndarray | None = None, batch_size: int = 8
) -> Outputs:
    rows = np.arange(30) if rows is None else rows
    data = data_of(IMAGES, rows, rows % 3)
    return extract(model, data, index=rows, batch_size=batch_size, device=CPU, title="test", stored=stored)


@pytest.mark.parametrize("features", ["float32", "float16"])
@pytest.mark.parametrize("extra", [0, 2])
def test_logits_that_are_not_stored_have_the_bits_of_those_that_are(
    features: str, extra: int, tmp_path: Path
) -> None:
    model = build(width=24, extra=extra)
    kept = many(model, Stored(features=features))
    kinds = {"lazy": Stored(logits=False, features=features), "kept": Stored(features=features)}
    for name, stored in kinds.items():
        for folder in (None, tmp_path / f"{name} grown"):
            found = many(model, replace(stored, folder=folder))
            found.save(tmp_path / name)
            assert (tmp_path / name / "logits.npy").exists() == (name == "kept")
            for each in (found, Outputs.load(tmp_path / name)):
                assert each.features.dtype == features
                assert_array_equal(each.features, kept.features)
                assert_array_equal(each.extra_logits, kept.extra_logits)
                for rows in (slice(None), slice(5, 19), np.array([29, 3, 3]), kept.labels == 1, slice(0, 0)):
                    assert_array_equal(each.logits[rows], kept.logits[rows])
                assert_array_equal(each.logits[7], kept.logits[7])
                assert_array_equal(each.logits[2:4, 1], kept.logits[2:4, 1])
                assert_array_equal(each.logits / 2, kept.logits / 2)
                assert_array_equal(each.logits.max(axis=1), kept.logits.max(axis=1))
                assert (each.logits.ndim, each.logits.size) == (2, 90)
                assert_array_equal(deepcopy(each).logits, kept.logits)
                assert_array_equal(each.predictions, kept.predictions)
                assert_array_equal(each.select(np.array([4, 1])).logits, kept.logits[[4, 1]])
    assert_allclose(kept.logits, kept.features @ kept.weight.T + kept.bias, rtol=1e-4, atol=1e-5)


def test_every_detector_gets_the_same_from_both_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "CHUNK", 32)
    model, found = build(width=24, extra=1), {}
    features = np.random.default_rng(0).gamma(1, size=(200, 24)).astype(np.float32)
    head = model.head.weight.detach().numpy()[:3]
    labels = (features @ head.T).argmax(1)
    for logits in (True, False):
        stored = Stored(logits=logits, folder=tmp_path / f"{logits}")
        outputs_of(model, features, labels=labels, index=np.arange(200), stored=stored).save(stored.folder)
        kept = Outputs.load(stored.folder)
        for detector in build_detectors(easy({"odin", "rotpred"})).values():
            found[detector.name, logits] = detector.fit(kept).score(kept)
    for name, logits in found:
        assert_array_equal(found[name, logits], found[name, True])
    assert len(found) == 2 * (len(DETECTORS) - 2)


def test_stored_logits_are_those_of_the_network_in_the_same_batches() -> None:
    model, rows = build(width=24), np.arange(30)
    found = many(model, Stored())
    with torch.inference_mode():
        for part in np.split(rows, (8, 16, 24)):
            logits, _ = model.eval()(torch.from_numpy(IMAGES[part].transpose(0, 3, 1, 2)))
            assert_array_equal(found.logits[part], logits)


@pytest.mark.parametrize("logits", [True, False])
def test_features_that_are_there_already_give_the_same_outputs(logits: bool, tmp_path: Path) -> None:
    model = build(extra=1)
    stored, kept = Stored(logits=logits, folder=tmp_path), many(model, IN_MEMORY)
    found = outputs_of(model, kept.features, labels=kept.labels, index=kept.index, stored=stored)
    assert_allclose(found.logits, kept.logits, rtol=1e-4, atol=1e-5)
    assert_allclose(found.extra_logits, kept.extra_logits, rtol=1e-4, atol=1e-5)
    assert_array_equal(found.weight, kept.weight)


def killed_in_batch(number: int, model: OpenSetModel, stored: Stored, **changes: Any) -> None:
    """Extract in a process that is killed while the network sees that batch."""
    pid = os.fork()
    if pid == 0:
        embed, seen = model.embed, []

        def stops(pixels: Tensor) -> Tensor:
            seen.append(len(pixels))
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return embed(pixels)

        model.embed = stops
        try:
            many(model, stored, **changes)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def counted(model: OpenSetModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes, embed = [], model.embed
    monkeypatch.setattr(model, "embed", lambda pixels: (sizes.append(len(pixels)), embed(pixels))[1])
    return sizes


@pytest.mark.parametrize("logits", [True, False])
def test_a_killed_extraction_goes_on_at_the_last_whole_chunk(
    logits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(extraction, "CHUNK", 8)
    model, stored = build(), Stored(logits=logits, folder=tmp_path)
    whole = many(model, IN_MEMORY, batch_size=4)
    killed_in_batch(6, model, stored, batch_size=4)
    killed_in_batch(2, model, stored, batch_size=4)
    sizes = counted(model, monkeypatch)
    found = many(model, stored, batch_size=4)
    assert sizes == [4, 4, 4, 2]  # of eight batches four were whole
    assert_array_equal(found.features, whole.features)
    assert_array_equal(found.logits, whole.logits)


def test_what_another_call_left_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(extraction, "CHUNK", 8)
    model, stored = build(), Stored(folder=tmp_path)
    changed = build()
    changed.made_from = Origin(split="2" * 16)
    for call in (
        lambda: many(model, stored, batch_size=8),
        lambda: many(model, stored, rows=np.arange(30)[::-1].copy(), batch_size=4),
        lambda: many(model, replace(stored, features="float16"), batch_size=4),
        lambda: many(changed, stored, batch_size=4),
    ):
        killed_in_batch(6, model, stored, batch_size=4)
        with monkeypatch.context() as patch:
            sizes = counted(model, patch)
            changed_sizes = counted(changed, patch)
            call()
        assert sum(sizes) + sum(changed_sizes) == 30


@pytest.mark.parametrize("damage", ["progress.txt", "features.npy"])
def test_what_was_left_and_is_no_longer_whole_is_made_anew(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stored = build(), Stored(folder=tmp_path)
    whole = many(model, IN_MEMORY)
    many(model, stored)
    content = (tmp_path / damage).read_bytes()
    (tmp_path / damage).write_bytes(content[:-9])
    sizes = counted(model, monkeypatch)
    assert_array_equal(many(model, stored).features, whole.features)
    assert sum(sizes) == 30


def test_finished_files_that_are_linked_elsewhere_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stored = build(), Stored(folder=tmp_path)
    whole = many(model, stored)
    names = ("features.npy", "logits.npy")
    for name in names:
        os.link(tmp_path / name, tmp_path / f"linked {name}")
    before = {name: (tmp_path / f"linked {name}").read_bytes() for name in names}
    sizes = counted(model, monkeypatch)
    assert_array_equal(many(model, stored).logits, whole.logits)
    assert sizes == []  # all of it was there
    many(model, replace(stored, features="float16"))
    assert sum(sizes) == 30
    assert {name: (tmp_path / f"linked {name}").read_bytes() for name in names} == before


def test_features_beyond_float16_are_refused() -> None:
    model = build()
    with torch.no_grad():
        model.neck[1].weight *= 1e8
    assert np.abs(many(model, IN_MEMORY).features).max() > 65504
    with pytest.raises(InputError, match=r"^extraction.features is float16, which holds .* a feature is \d"):
        many(model, Stored(features="float16"))


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    expected = (
        "cuda" if torch.cuda.is_available() else ("mps" if torch.backends.mps.is_available() else "cpu")
    )
    assert pick_device("auto").type == expected


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine without a GPU"
)
def test_a_gpu_that_is_not_there() -> None:
    for ask in (pick_device, make_fabric):
        with pytest.raises(
            InputError, match=r"^train.accelerator is 'gpu', but PyTorch finds none .*; auto takes"
        ):
            ask("gpu")


def test_cpu_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_cpu_threads(1)
        assert torch.get_num_threads() == 1
        set_cpu_threads("auto")
        assert torch.get_num_threads() == 1  # auto leaves what is there
    finally:
        torch.set_num_threads(before)
