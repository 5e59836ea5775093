"""The weights of an antialiased resize, as Pillow and torch have them, of tensors or numpy's arrays."""

from __future__ import annotations

from typing import Any

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}  # pixels on each side of the centre, where nothing shrinks


def weights(centres: Any, pixels: Any, stretch: Any, interpolation: str) -> Any:
    """What each pixel along an axis counts for each place in the result: (S, L), rows sum to 1.

    A pixel is as far from a centre as its own centre is, in units of `stretch`: an image that shrinks is
    averaged over all pixels that a place covers.

    Args:
        centres: (S, 1) of the places, in pixels of the image.
        pixels: (1, L) or (S, L) numbers of pixels.
        stretch: pixels of the image for one of the result, at least 1.
        interpolation: bilinear or bicubic (Keys 1981 with a = -1/2).
    """
    away = abs((pixels - centres + 0.5) / stretch)
    found = FILTERS[interpolation](away)
    return found / found.sum(1)[:, None]


def _triangle(away: Any) -> Any:
    return (1 - away).clip(0, 1)


def _cubic(away: Any) -> Any:
    near = (1.5 * away - 2.5) * away * away + 1
    far = ((-0.5 * away + 2.5) * away - 4) * away + 2
    return near * (away < 1) + far * ((away >= 1) & (away < 2))


FILTERS = {"bilinear": _triangle, "bicubic": _cubic}
