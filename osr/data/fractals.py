"""Fractals as pictures to mix into others: attractors of random systems of affine maps, drawn by points.

A system of two to eight maps x -> A x + b draws a fractal when a point is moved by one of them at a time,
chosen at random (Barnsley 1988). The maps are drawn as by Anderson and Farrell, "Improving Fractal
Pre-training", WACV 2022: A = R(t) diag(s1, s2) R(p) D with singular values below 1, whose weighted sum lies
in a narrow band, where attractors fill the plane neither too much nor too little. The authors of PixMix
(Hendrycks et al. 2022) collected theirs on the web.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

Floats = NDArray[np.float64]

SMALLEST, LARGEST = 16, 128  # pixels a side that are drawn; other sizes are made of them
WALKERS = 64  # points of one fractal that move at once
WARM_UP = 16  # moves until a point is as good as on the attractor
MAX_MAPS = 8


@cache
def fractals(count: int, size: int, channels: int) -> Tensor:
    """(count, channels, size, size) uint8 on the CPU, always the same; the caller must not change them.

    Args:
        count: how many, at least 1.
        size: pixels a side.
        channels: 1, or 3 for colours.
    """
    rng, side = np.random.default_rng(0), min(max(size, SMALLEST), LARGEST)
    drawn = np.stack([_picture(rng, side, channels) for _ in range(count)])
    pictures = torch.from_numpy(drawn)
    if side != size:
        pictures = interpolate(pictures, (size, size), mode="bilinear", antialias=True, align_corners=False)
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return ((pictures - low) / (high - low).clamp(min=1e-6) * 255).round().to(torch.uint8)


def _picture(rng: np.random.Generator, side: int, channels: int) -> NDArray[np.float32]:
    """(channels, side, side) in 0..1: brightness by the logarithm of the density, on another colour."""
    density = np.log1p(_density(rng, side))
    shade = density / max(float(density.max()), 1e-9)
    ground, low, high = rng.uniform(0, 1, (3, channels, 1, 1))
    colour = low + (high - low) * shade
    cover = np.sqrt(shade)  # thin places shine through
    return np.asarray(ground * (1 - cover) + colour * cover, dtype=np.float32)


def _density(rng: np.random.Generator, side: int) -> Floats:
    """(side, side) number of points in each pixel, the attractor's middle 96 % stretched over the picture."""
    maps, offsets = system(rng)
    share = np.abs(np.linalg.det(maps)) + 1e-3
    choices = rng.choice(len(maps), (WARM_UP + 4 * side * side // WALKERS, WALKERS), p=share / share.sum())
    points, seen = np.zeros((WALKERS, 2)), []
    for chosen in choices:
        points = np.einsum("nij,nj->ni", maps[chosen], points) + offsets[chosen]
        seen.append(points)
    places = np.concatenate(seen[WARM_UP:])
    low, high = np.quantile(places, [0.02, 0.98], axis=0)
    pixels = np.floor((places - low) / np.maximum(high - low, 1e-9) * side).astype(int)
    pixels = pixels[((pixels >= 0) & (pixels < side)).all(axis=1)]
    return np.bincount(pixels @ (side, 1), minlength=side * side).reshape(side, side).astype(float)


def system(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(M, 2, 2) matrices and (M, 2) offsets of M = 2..8 contracting maps.

    The sum over the maps of s1 + 2 s2 lies between (5 + M) / 2 and (6 + M) / 2, as in the paper.
    """
    num_maps = int(rng.integers(2, MAX_MAPS + 1))
    singular = np.sort(_singular(rng, num_maps).reshape(num_maps, 2), axis=1)[:, ::-1]
    turns = rng.uniform(-np.pi, np.pi, (2, num_maps))
    first, second = (_rotations(angles) for angles in turns)
    signs = rng.choice([-1.0, 1.0], (num_maps, 2))
    maps = np.einsum("mij,mj,mjk,mk->mik", first, singular, second, signs)
    return maps, rng.uniform(-1, 1, (num_maps, 2))


def _singular(rng: np.random.Generator, num_maps: int) -> Floats:
    """(2 M,) pairs of singular values in 0..1 whose sum of larger + 2 smaller lies in the band."""
    low, high = (5 + num_maps) / 2, (6 + num_maps) / 2
    while True:
        pairs = np.sort(rng.uniform(0, 1, (64, num_maps, 2)), axis=2)
        sums = (pairs[..., 1] + 2 * pairs[..., 0]).sum(axis=1)
        if (found := np.flatnonzero((sums >= low) & (sums <= high))).size:
            return np.asarray(pairs[found[0]].ravel())


def _rotations(angles: Floats) -> Floats:
    """(M, 2, 2)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], axis=-1), np.stack([sin, cos], axis=-1)], axis=-2)
