"""Regime probe: the head is the optimum of its objective, and no image passes the backbone twice."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.testing import assert_allclose
from ruamel.yaml import YAML
from safetensors.torch import save_file

from osr.errors import InputError
from osr.models.open_set_model import OpenSetModel
from osr.params import Params, check_params
from osr.training import probe
from osr.training.probe import best_of, fit_probes
from osr.training.settings import ProbeSettings
from pipeline import calibrate, evaluate, fit_openmax, train
from pipeline.prepare_split import prepare_split
from pipeline.tracking.stage_run import Row
from pipeline.workspace.stages import FEATURES, WEIGHTS

ROOT = Path(__file__).parents[1]
BACKBONE = "test_efficientnet"  # timm's smallest
SETTINGS = ProbeSettings(penalties=(1.0, 0.1, 0.01, 1e-3))


def clouds(num_classes: int, num_images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different sizes, one of them constant, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(num_images) % num_classes
    features = generator.normal(size=(num_images, 6)) + np.eye(num_classes, 6)[labels] * 1.5
    features = features * [1, 100, 0.01, 1, 5, 0] + [3, -50, 0, 0, 1, 7]
    return features.astype(np.float32), labels


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_each_fit_is_the_minimum_of_its_objective(num_classes: int, bias: bool) -> None:
    train_part, val = clouds(num_classes, 80, 0), clouds(num_classes, 40, 1)
    fits = fit_probes(train_part, val, num_classes=num_classes, bias=bias, settings=SETTINGS, tolerance=1e-7)
    spread = train_part[0].std(axis=0, dtype=np.float64)
    for fit in fits:
        weight = torch.tensor(fit.weight * spread, requires_grad=True)  # of the standardised features
        offset = torch.tensor(
            fit.bias + fit.weight @ train_part[0].mean(axis=0) * bias, dtype=torch.float64, requires_grad=True
        )
        centre = train_part[0].mean(axis=0) if bias else 0
        scaled = torch.tensor((train_part[0] - centre) / np.where(spread > 0, spread, np.inf))
        logits = scaled.double() @ weight.T + offset
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(train_part[1]))
        (loss + fit.row["penalty"] / 2 * weight.square().sum()).backward()
        assert float(weight.grad.abs().max()) < 3e-4
        assert not bias or float(offset.grad.abs().max()) < 3e-4
        assert_allclose(fit.row["train/loss"], float(loss.detach()), rtol=1e-4)
        right = (train_part[0] @ fit.weight.T + fit.bias).argmax(axis=1) == train_part[1]
        assert_allclose(fit.row["train/accuracy"], right.mean(), atol=0.02)
    losses = [fit.row["val/loss"] for fit in fits]
    assert losses[best_of(fits)] == min(losses)
    assert [fit.row["penalty"] for fit in fits] == sorted(SETTINGS.penalties, reverse=True)[: len(fits)]


def test_a_fit_that_does_not_converge_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_ITERATIONS", 1)
    with pytest.raises(InputError, match=r"penalty 1 has not converged in 1 iterations: leave this penalty"):
        fit_probes(clouds(3, 60, 0), clouds(3, 30, 1), num_classes=3, bias=True, settings=SETTINGS)


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Params, Counter, Path]:
    """Settings, how often each image passed the backbone, and the folder of a run up to its evaluation."""
    root = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    save_file(timm.create_model(BACKBONE, num_classes=7).state_dict(), root / "w.safetensors")
    (root / "data").mkdir()
    names = np.repeat(["cat", "dog", "frog"], 30)
    noise = np.random.default_rng(0).integers(0, 90, (len(names), 16, 16, 3), dtype=np.uint8)
    noise[..., 0] += 80 * np.arange(3, dtype=np.uint8).repeat(30)[:, None, None] // 2
    np.savez(root / "data" / "images.npz", images=noise, labels=names)
    content = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    content["dataset"]["name"] = "arrays"
    content["split"] |= {"protocol": "explicit", "known": ["cat", "dog"], "unknown": ["frog"]}
    content["model"]["backbone"] |= {"name": BACKBONE, "weights": str(root / "w.safetensors")}
    content["model"]["image_size"] = 32
    content["model"]["head"]["bias"] = True
    content["train"]["regime"] = "probe"
    content["detectors"]["enabled"] = ["maxlogit", "mav"]
    content["evaluate"]["bootstrap_replicates"] = 100
    params = check_params(content, source="params.yaml")
    seen: Counter = Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        embed = OpenSetModel.embed

        def counted(model: OpenSetModel, pixels: torch.Tensor) -> torch.Tensor:
            seen.update(image.numpy().tobytes() for image in pixels)
            return embed(model, pixels)

        patch.setattr(OpenSetModel, "embed", counted)
        prepare_split(params, None)
        train.train_stage(params, Row())
        calibrate.calibrate(params, Row())
        fit_openmax.fit_openmax(params, Row())
        evaluate.evaluate(params, Row())
    return params, seen, root


def test_each_image_passes_the_backbone_once_and_the_backbone_stays(
    probed: tuple[Params, Counter, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, seen, root = probed
    monkeypatch.chdir(root)
    assert len(seen) == 90
    assert set(seen.values()) == {1}
    model = OpenSetModel.load(WEIGHTS)
    trained = timm.create_model(BACKBONE, num_classes=0).state_dict()
    held = {key: value for key, value in model.backbone.state_dict().items() if key in trained}
    torch.manual_seed(0)
    wanted = timm.create_model(BACKBONE, num_classes=7).state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in held.items())
    published = timm.get_pretrained_cfg(BACKBONE)
    seen_by_it = model.image_format
    assert (seen_by_it.size, seen_by_it.mean, seen_by_it.std) == (32, published.mean, published.std)
    assert (seen_by_it.interpolation, seen_by_it.crop_fraction) == ("bicubic", published.crop_pct)


def test_the_same_settings_give_the_same_bits(
    probed: tuple[Params, Counter, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, _, root = probed
    monkeypatch.chdir(root)
    before = {path: path.read_bytes() for path in (WEIGHTS, *FEATURES.rglob("*.npy"))}
    assert len(before) == 5
    train.train_stage(params, Row())
    assert all(path.read_bytes() == content for path, content in before.items())
