"""Small open-set models and images for them."""

import torch
from torch import Tensor, nn

from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.models.settings import BackboneSettings, HeadSettings, ImageSettings, ModelSettings, NeckSettings

AUTO = {"mean": (), "std": (), "interpolation": "auto", "crop_fraction": "auto"}
NAMES = ("cat", "dog", "frog")
GREY = ImageFormat(8, 1, (0.25,), (0.5,))


def model_settings(
    *,
    backbone: str = "small_convnet",
    weights: str = "none",
    neck: str = "identity",
    bias: bool = True,
    size: int | str = "auto",
    stem: bool | str = "auto",
    head: str = "linear",
    frozen: int | str = "auto",
    image: dict[str, object] | None = None,
    options: dict[str, object] | None = None,
    classifier: str = "none",
    temperature: float = 1.0,
    extra: int = 0,
    rotations: bool = False,
) -> ModelSettings:
    return ModelSettings(
        image_size=size,
        image=ImageSettings(**(AUTO | (image or {}))),
        backbone=BackboneSettings(
            name=backbone,
            weights=weights,
            small_image_stem=stem,
            frozen_stages=frozen,
            classifier=classifier,
            options=options or {},
        ),
        neck=NeckSettings(name=neck, width=16, tau=0.1),
        head=HeadSettings(name=head, bias=bias, scale=7.0, temperature=temperature, extra_classes=extra),
        rotation_head=rotations,
    )


def build(*, image_format: ImageFormat = GREY, seed: int = 0, **changes: object) -> OpenSetModel:
    torch.manual_seed(seed)
    return OpenSetModel(model_settings(**changes), image_format, NAMES)


def pictures(num_images: int, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num_images, channels, size, size), dtype=torch.uint8, generator=generator)


def unreached(model: nn.Module, loss: Tensor) -> list[str]:
    """Names of the parameters that the gradient of `loss` does not reach."""
    loss.backward()
    return [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
