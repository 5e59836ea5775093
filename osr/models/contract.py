"""What every backbone promises, as checks on made-up images: `osr check` runs them on yours.

A check takes a function that makes the backbone and images for it, and raises `Broken` with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from osr.settings.own_code import keep

Make = Callable[[], tuple[nn.Module, Tensor]]


def one_vector_per_image(make: Make) -> None:
    """(B, D) finite features of (B, C, H, W) float images, and the images stay as they are."""
    backbone, images = make()
    before = images.clone()
    with torch.no_grad():
        features = backbone.eval()(images)
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    is_right = isinstance(features, Tensor) and features.ndim == 2 and len(features) == len(images)
    keep(is_right, f"{len(images)} images give {shape}, but must give one vector each")
    keep(bool(features.isfinite().all()), "features are not finite")
    keep(torch.equal(images, before), "the images are changed")


def image_alone(make: Make) -> None:
    """When it judges, the features of an image do not depend on the images beside it."""
    backbone, images = make()
    with torch.no_grad():
        together = backbone.eval()(images)
        alone = torch.cat([backbone(image[None]) for image in images])
    keep(torch.allclose(together, alone, rtol=1e-3, atol=1e-4), "an image alone has other features")


def gradient_everywhere(make: Make) -> None:
    """The gradient reaches every parameter when it learns."""
    backbone, images = make()
    backbone.train()(images).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.any())
            keep(reached, f"the gradient does not reach {name}")


def state_has_it_all(make: Make) -> None:
    """Another one with its state gives the same features: nothing that is learned stands elsewhere."""
    backbone, images = make()
    other, _ = make()
    other.load_state_dict(backbone.state_dict())
    with torch.no_grad():
        same = torch.equal(backbone.eval()(images), other.eval()(images))
    keep(same, "its state in another one gives other features")


PROMISES: tuple[Callable[[Make], None], ...] = (
    one_vector_per_image,
    image_alone,
    gradient_everywhere,
    state_has_it_all,
)
