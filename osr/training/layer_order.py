"""Which layers of a backbone come first, as timm orders them."""

from __future__ import annotations

from typing import Any

from osr.errors import InputError


def order_of(backbone: Any, *, coarse: bool, refusal: str) -> dict[str, int]:
    """The place of each parameter, 0 nearest the image.

    Args:
        backbone: the network.
        coarse: by stages instead of layers.
        refusal: the error's sentence.

    Raises:
        InputError: the network does not say its order, as timm's networks do.
    """
    from timm.models import group_parameters

    if not hasattr(backbone, "group_matcher"):
        raise InputError(refusal)
    places: dict[str, int] = group_parameters(backbone, backbone.group_matcher(coarse=coarse), reverse=True)
    return places
