"""Extraction into files: the same bits whatever is stored, and what a killed one leaves."""

import os
import signal
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extracted import IMAGES, build, easy, many
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

from osr.detectors.registry import DETECTORS, build_detectors
from osr.errors import InputError
from osr.inference import extraction
from osr.inference.extraction import IN_MEMORY, Stored, outputs_of
from osr.models.open_set_model import OpenSetModel
from osr.outputs import Outputs
from osr.stored.origin import Origin


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
