"""Corruptions of images by what they do to pixels, and the metrics of known images under a shift."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from osr.data.batches import TensorImages
from osr.data.corruptions import CONTRAST, CORRUPTIONS, NOISE, Corrupted, corrupt
from osr.errors import InputError
from osr.metrics.shifts import shift_metrics
from osr.outputs import Outputs
from osr.plots.shifts import shifts
from osr.plots.style import canvas, styled
from osr.settings.base import CorruptionName

KINDS = sorted(CORRUPTIONS)
GENERATOR = torch.Generator().manual_seed(0)
# Smooth images: a few bright waves.
WAVES = torch.stack([torch.sin(torch.arange(32) / (3 + n)) for n in range(6)])
SMOOTH = (120 + 60 * WAVES[:, None, :, None] * WAVES[:, None, None, :]).to(torch.uint8).expand(-1, 3, -1, -1)


def away(images, changed):
    return (images.float() - changed.float()).square().mean().sqrt().item()


def test_the_schema_knows_the_corruptions():
    assert set(CORRUPTIONS) == set(get_args(CorruptionName))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (32, 20)])
def test_a_higher_severity_is_further_away_and_every_image_has_its_own_draw(kind, channels, size):
    images = torch.randint(0, 256, (6, channels, *size), dtype=torch.uint8, generator=GENERATOR)
    images = torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1).to(torch.uint8)
    before, rows = images.clone(), np.arange(6)
    levels = [corrupt(images, rows, kind=kind, severity=severity, seed=1) for severity in range(1, 6)]
    assert torch.equal(images, before)
    for changed in levels:
        assert changed.shape == images.shape
        assert changed.dtype == torch.uint8
    distances = [away(images, changed) for changed in levels]
    assert distances[0] > 0
    assert distances[4] > distances[2] > 0.9 * distances[0]
    again = corrupt(images[2:3], rows[2:3], kind=kind, severity=3, seed=1)
    assert torch.equal(again, levels[2][2:3])
    if kind in ("noise", "rotation"):
        same = corrupt(images[:1].expand(8, -1, -1, -1), np.arange(8), kind=kind, severity=3, seed=1)
        assert len(torch.unique(same, dim=0)) > 1
        other = corrupt(images, rows, kind=kind, severity=3, seed=2)
        assert not torch.equal(other, levels[2])


def test_noise_and_contrast_have_the_size_they_say():
    grey = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    noisy = corrupt(grey, np.arange(2), kind="noise", severity=2, seed=0).float()
    assert noisy.std().item() == pytest.approx(255 * NOISE[1], rel=0.02)
    flat = corrupt(SMOOTH, np.arange(6), kind="contrast", severity=2, seed=0).float()
    spread = SMOOTH.float().std((2, 3))
    assert flat.std((2, 3)) == pytest.approx(CONTRAST[1] * spread, rel=0.05)
    assert flat.mean((2, 3)) == pytest.approx(SMOOTH.float().mean((2, 3)), abs=0.5)


def test_blur_takes_fine_detail_and_leaves_the_mean():
    stripes = (255 * (torch.arange(64) % 2)).to(torch.uint8).expand(1, 1, 64, 64)
    blurred = corrupt(stripes, np.arange(1), kind="blur", severity=3, seed=0).float()
    assert blurred.std() < 0.5 * stripes.float().std()
    assert blurred.mean().item() == pytest.approx(127.5, abs=2)


def test_batches_change_nothing():
    data = TensorImages(SMOOTH.contiguous(), torch.arange(6))
    rows = np.array([10, 3, 7, 8, 2, 99])
    whole, labels = next(Corrupted(data, rows, "noise", 2, 5).batches(6))
    parts = list(Corrupted(data, rows, "noise", 2, 5).batches(4))
    assert torch.equal(whole, torch.cat([images for images, _ in parts]))
    assert torch.equal(labels, data.labels)
    assert len(Corrupted(data, rows, "noise", 2, 5)) == 6


def test_metrics_of_shifted_knowns():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 3)).astype(np.float32)
    outputs = Outputs(
        logits=logits,
        features=logits,
        labels=np.arange(40) % 3,
        index=np.arange(40),
        weight=np.eye(3, dtype=np.float32),
        bias=np.zeros(3, np.float32),
    )
    scores, unknown = rng.normal(size=40), rng.normal(1, 1, 25)
    found = shift_metrics(outputs, {"a": scores}, {"a": 0.3}, {"a": unknown}, confidence=0.95)
    assert found["accuracy"] == outputs.correct.mean()
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert found["known_acceptance"] == {"a": (scores <= 0.3).mean()}
    area = roc_auc_score(np.repeat([0, 1], [40, 25]), np.r_[scores, unknown])
    assert found["auroc"]["a"] == pytest.approx(area)
    thetas = np.where(outputs.predictions == 0, -9.0, 9.0)
    per_class = shift_metrics(outputs, {"a": scores}, {"a": thetas}, {"a": unknown[:0]}, confidence=0.95)
    assert per_class["known_acceptance"] == {"a": (outputs.predictions != 0).mean()}
    assert "auroc" not in per_class


def test_the_figure_shows_every_kind_and_the_unknown_sets():
    curves = {"blur": {0: 0.9, 3: 0.8, 5: 0.7}, "noise": {0: 0.9, 3: 0.5, 5: 0.2}}
    with styled():
        figure = canvas(7.0, 3.2)
        left, right = figure.subplots(1, 2)
        shifts((left, right), curves, curves, unknown={"far": 0.1, "near": 0.4}, detector="msp")
        lines = {line.get_label(): line for line in right.get_lines()}
        assert set(lines) == {"blur", "noise", "unknown: far", "unknown: near"}
        assert lines["noise"].get_xydata().tolist() == [[0, 0.9], [3, 0.5], [5, 0.2]]
        assert set(lines["unknown: near"].get_ydata()) == {0.4}
        assert [line.get_label() for line in left.get_lines()] == ["blur", "noise"]
        with pytest.raises(InputError, match="no corruption to draw"):
            shifts((left, right), {}, {}, unknown={}, detector="msp")
