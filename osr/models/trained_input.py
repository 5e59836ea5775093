"""What trained weights want to see: size, normalisation, interpolation, crop, from whoever published them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from osr.models.backbones import BACKBONES
from osr.models.custom import TORCHVISION
from osr.models.settings import BackboneSettings
from osr.models.weight_files import description_of
from osr.settings.own_code import is_custom


@dataclass(frozen=True)
class TrainedInput:
    """The images that a network was trained and judged with.

    Args:
        size: height and width in pixels.
        mean, std: per channel, of pixels in 0..1.
        interpolation: nearest, bilinear or bicubic.
        crop_fraction: the share of the shorter side that the square in the middle keeps; None where whole
            images were squeezed into the square.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_fraction: float | None


def trained_input(settings: BackboneSettings) -> TrainedInput | None:
    """What the weights of `settings` want to see; None for random weights and where nobody says.

    Our own files say it themselves. For timm's networks `pretrained_cfg` does, also with a local file.
    """
    if settings.weights == "none":
        return None
    if settings.weights != "pretrained" and (ours := description_of(Path(settings.weights))):
        seen = ours["image_format"]
        return TrainedInput(
            seen["size"],
            tuple(seen["mean"]),
            tuple(seen["std"]),
            seen["interpolation"],
            seen["crop_fraction"],
        )
    if settings.name.startswith(f"{TORCHVISION}:"):
        return _of_torchvision(settings.name.partition(":")[2])
    if settings.name in BACKBONES or is_custom(settings.name):
        return None
    import timm

    published = timm.get_pretrained_cfg(settings.name)
    if published is None:
        return None
    return TrainedInput(
        published.input_size[-1],
        tuple(published.mean),
        tuple(published.std),
        published.interpolation if published.interpolation in ("nearest", "bilinear") else "bicubic",
        None if published.crop_mode == "squash" else published.crop_pct,
    )


def _of_torchvision(name: str) -> TrainedInput | None:
    """What torchvision's own weights of a classifier want to see; None for an unknown name."""
    from torchvision import models

    if name not in models.list_models(module=models):
        return None
    wanted = models.get_model_weights(name).DEFAULT.transforms()
    (size,), (short,) = wanted.crop_size, wanted.resize_size
    mean, std = tuple(wanted.mean), tuple(wanted.std)
    return TrainedInput(size, mean, std, wanted.interpolation.value, size / short)
