"""Where a training starts: files of other networks are refused, our own continue, stages stay frozen."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_models import NAMES, model_settings, pictures
from torch import nn

from osr.errors import InputError
from osr.frame import Frame
from osr.models.backbones import build_backbone
from osr.models.computing import Computing
from osr.models.forward import forward, ready
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat, format_for, frame_for
from osr.training.freezing import freeze_backbone

SHAPE = {"channels": 3, "image_size": 32}
TINY = "test_efficientnet"


@pytest.mark.parametrize(
    ("larger", "smaller"), [("resnet34", "resnet18"), ("tf_efficientnet_lite1", "tf_efficientnet_lite0")]
)
def test_weights_of_a_larger_network_are_refused_by_name(tmp_path: Path, larger: str, smaller: str) -> None:
    state = timm.create_model(larger).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    own = timm.create_model(smaller).state_dict()
    over = [key for key in state if key not in own and not key.endswith("num_batches_tracked")]
    with pytest.raises(InputError) as refused:
        build_backbone(smaller, weights=str(tmp_path / "w.safetensors"), **SHAPE)
    assert f"holds {len(over)} tensors that {smaller} has no place for: " in str(refused.value)
    assert any(key in str(refused.value) for key in over)


def test_a_checkpoint_with_another_head_and_its_siblings_is_taken(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = timm.create_model(TINY, num_classes=5)
    state = {f"encoder.{key}": value for key, value in trained.state_dict().items()}
    torch.save({"state_dict": state | {"criterion.weight": torch.ones(3)}, "epoch": 1}, tmp_path / "w.pth")
    torch.manual_seed(2)
    backbone = build_backbone(TINY, weights=str(tmp_path / "w.pth"), **SHAPE)
    held = trained.state_dict()
    assert all(torch.equal(value, held[key]) for key, value in backbone.state_dict().items())


def test_a_training_starts_from_our_own_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    seen = ImageFormat(32, 3, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "nearest", 0.5)
    before = OpenSetModel(model_settings(backbone="resnet18", neck="linear"), seen, NAMES).eval()
    assert before.backbone.conv1.kernel_size == (3, 3)
    path = tmp_path / "model.safetensors"
    before.save(path)
    settings = model_settings(backbone="resnet18", weights=str(path))
    images = pictures(2, 3, 48).permute(0, 2, 3, 1).numpy()
    assert format_for(settings, images) == seen
    chosen = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "crop_fraction": "none"}
    other = format_for(model_settings(backbone="resnet18", weights=str(path), image=chosen, size=64), images)
    assert other == ImageFormat(64, 3, (0.5,) * 3, (0.5,) * 3)
    after = OpenSetModel(settings, seen, ("owl", "fox")).eval()
    assert torch.equal(after.backbone(torch.ones(1, 3, 32, 32)), before.backbone(torch.ones(1, 3, 32, 32)))
    after.save(path)  # a third generation keeps the small stem, too
    again = OpenSetModel(settings, seen, NAMES).eval()
    assert torch.equal(again.backbone(torch.ones(1, 3, 32, 32)), after.backbone(torch.ones(1, 3, 32, 32)))


@pytest.mark.parametrize("image", [{"mean": (0.5,)}, {"mean": (0.5,) * 2, "std": (0.5,) * 2}])
def test_wrong_numbers_of_means_are_one_sentence(image: dict) -> None:
    with pytest.raises(ValueError, match=r"model.image.mean is .* must both be \[\] or hold 1 or 3 numbers"):
        model_settings(image=image)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(40, 60), (61, 37), (16, 16), (200, 64)])
def test_a_crop_keeps_the_middle_of_the_shorter_side(interpolation: str, shape: tuple[int, int]) -> None:
    frame = Frame(32, interpolation, 0.8)
    ramp = torch.linspace(0, 1, max(shape)).expand(1, 1, max(shape), -1)
    ramp = ramp if shape[1] == max(shape) else ramp.transpose(2, 3)
    top, left = ((max(shape) - side) // 2 for side in shape)
    picture = ramp[:, :, top : top + shape[0], left : left + shape[1]]
    fitted = frame.fit(picture)
    assert fitted.shape == (1, 1, 32, 32)
    assert 0 <= float(fitted.min()) <= float(fitted.max()) <= 1
    assert abs(float(fitted.mean()) - float(picture.mean())) < 0.03
    side = min(shape) * 0.8 / max(shape)  # of the ramp that the square shows
    assert float(fitted.max() - fitted.min()) == pytest.approx(side, abs=0.08)
    whole = (picture * 255).round().to(torch.uint8)
    assert float((frame.fit(whole) / 255 - fitted).abs().max()) < 0.03
    assert torch.equal(frame.fit(fitted), fitted)


def test_files_have_the_size_of_the_weights() -> None:
    assert frame_for(model_settings(backbone=TINY, weights="pretrained"), None) == Frame(160, "bicubic", 0.95)
    with pytest.raises(InputError, match=r"model.image_size is 'auto', but must be a number"):
        frame_for(model_settings(), None)


@pytest.mark.parametrize(("stages", "learns"), [("auto", "blocks.4"), (1, "blocks.0"), ("all", None)])
def test_frozen_stages_learn_nothing_and_keep_their_statistics(stages: object, learns: str | None) -> None:
    torch.manual_seed(0)
    image_format = ImageFormat(32, 3, (0.5,) * 3, (0.5,) * 3)
    model = OpenSetModel(model_settings(backbone=TINY), image_format, NAMES)
    freeze_backbone(model, stages)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(pictures(6, 3, 32))[0].square().mean().backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert "head.weight" in changed
    backbone = {key.removeprefix("backbone.") for key in changed if key.startswith("backbone.")}
    stage_names = [f"blocks.{number}" for number in range(len(model.backbone.blocks))]
    still = stage_names[: stage_names.index(learns)] if learns in stage_names else stage_names
    assert not [key for key in backbone if key.startswith(("conv_stem", "bn1", *(f"{s}." for s in still)))]
    assert bool(backbone) == (learns is not None)
    assert learns is None or any(key.startswith(learns) for key in backbone)


def test_stages_need_an_order_and_an_end() -> None:
    image_format = ImageFormat(32, 3, (0.5,) * 3, (0.5,) * 3)
    model = OpenSetModel(model_settings(backbone=TINY), image_format, NAMES)
    with pytest.raises(
        InputError, match=r"model.backbone.frozen_stages is 99, but must be at most \d, auto or"
    ):
        freeze_backbone(model, 99)
    own = OpenSetModel(model_settings(), image_format, NAMES)
    with pytest.raises(InputError, match=r"the stages of model.backbone.name 'small_convnet' have no order"):
        freeze_backbone(own, "auto")
    freeze_backbone(own, "all")
    assert not any(parameter.requires_grad for parameter in own.backbone.parameters())
    assert isinstance(own.backbone, nn.Module)


@pytest.mark.parametrize("computing", [Computing(channels_last=True), Computing(True, in_bfloat16=True)])
def test_who_loads_a_model_computes_as_its_stages_did(tmp_path: Path, computing: Computing) -> None:
    torch.manual_seed(0)
    seen = ImageFormat(32, 3, (0.5,) * 3, (0.5,) * 3)
    plain = OpenSetModel(model_settings(backbone=TINY), seen, NAMES).eval()
    model = OpenSetModel(model_settings(backbone=TINY), seen, NAMES, computing=computing)
    model.load_state_dict(plain.state_dict())
    model.save(tmp_path / "model.safetensors")
    loaded = ready(OpenSetModel.load(tmp_path / "model.safetensors"), "cpu")
    assert loaded.computing == computing
    assert loaded.backbone.conv_stem.weight.is_contiguous(memory_format=torch.channels_last)
    images = pictures(4, 3, 32)
    with torch.no_grad():
        wanted = forward(ready(model, "cpu"), images)
        found = forward(loaded, images)
        usual = plain(images)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert all(part.dtype == torch.float32 for part in found)
    bound = 0.05 if computing.in_bfloat16 else 1e-4
    distance = float((found[1] - usual[1]).norm() / usual[1].norm())
    assert distance < bound
    assert not computing.in_bfloat16 or distance > 1e-4, "bfloat16 was used"
    torch.testing.assert_close(found[0], loaded.head(found[1]).detach())  # never in bfloat16
