"""Features in the plane: t-SNE, UMAP, and their picture, known classes in colour and unknowns as crosses."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN
from osr.plots.style import INK, MARKERS, PALETTE, legend_below, short

Array = NDArray[Any]

UMAP_NEIGHBOURS = 15
NUMBERED = 12  # above so many classes the clusters carry the label, too
CENTRED: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 5, "clip_on": True}
REST = {UNKNOWN: ("unknown", "x", INK), BACKGROUND: ("background", "+", "#888888")}


def embed(features: Array, *, perplexity: float, seed: int) -> NDArray[np.float32]:
    """t-SNE of the features, started from their principal components.

    Args:
        features: (N, D), D >= 2, at most a few thousand rows.
        perplexity: effective number of neighbours, below N.
        seed: of the optimisation; the same input and seed give the same points.

    Returns:
        (N, 2) points; distances between far clusters mean nothing.

    Raises:
        InputError: perplexity is not below N, or the features are not 2-D, not finite, or all the same.
    """
    features = _check(features)
    if not 0 < perplexity < len(features):
        raise InputError(
            f"The t-SNE perplexity is {perplexity:g}, but must be above 0 and below the number of images, "
            f"{len(features)}."
        )
    from sklearn.manifold import TSNE  # takes a second to import; only this function needs it
    from threadpoolctl import threadpool_limits

    model = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed)
    with threadpool_limits(limits=1):  # waiting threads make it ten times slower on a busy machine
        return np.asarray(model.fit_transform(features), dtype=np.float32)


def fitting_perplexity(wanted: float, num_images: int) -> float:
    """The perplexity, or the largest for so many images: t-SNE looks at three times as many neighbours."""
    return min(wanted, (num_images - 1) / 3)


def has_umap() -> bool:
    """Whether the package umap-learn, which osr does not ask for, is installed."""
    return find_spec("umap") is not None


def embed_umap(features: Array, *, seed: int) -> NDArray[np.float32]:
    """UMAP of the features (McInnes et al. 2018) with the settings of umap-learn.

    Args:
        features: (N, D), D >= 2, N > 15.
        seed: of the optimisation; the same input and seed give the same points.

    Returns:
        (N, 2) points.

    Raises:
        InputError: umap-learn is missing, or the features are not 2-D, too few, not finite, or all the same.
    """
    features = _check(features)
    if not has_umap():
        raise InputError("A UMAP figure needs the package umap-learn: pip install umap-learn.")
    if len(features) <= UMAP_NEIGHBOURS:
        raise InputError(f"UMAP needs more than {UMAP_NEIGHBOURS} images, not {len(features)}.")
    from umap import UMAP

    model = UMAP(n_neighbors=UMAP_NEIGHBOURS, random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(features), dtype=np.float32)


def _check(features: Array) -> Array:
    features = np.asarray(features, dtype=np.float32)
    if features.ndim != 2 or features.shape[1] < 2:
        raise InputError(f"An embedding needs features of shape (N, D) with D >= 2, not {features.shape}.")
    if not np.isfinite(features).all():
        raise InputError("An embedding needs finite features, but some are NaN or infinite.")
    if (features == features[0]).all():
        raise InputError(f"All {len(features)} feature vectors are the same, so there is nothing to spread.")
    return features


def embedding(axes: Axes, points: Array, *, labels: Array, names: Sequence[str], title: str) -> None:
    """Points coloured by class; unknowns are black crosses, background images grey plus signs.

    Args:
        axes: where to draw.
        points: (N, 2).
        labels: (N,) in 0..K-1, -1 unknown, -2 background.
        names: the K known classes.
        title: above the axes, for example how many of the test images are shown.

    Raises:
        InputError: shapes disagree, or a label has no name.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    if points.shape != (len(labels), 2):
        raise InputError(f"points must be of shape {(len(labels), 2)}, one per label, not {points.shape}.")
    nameless = sorted(set(labels.tolist()) - set(range(len(names))) - set(REST))
    if nameless:
        raise InputError(f"The labels {nameless} have no name: there are {len(names)} names, and -1 and -2.")
    handles: list[Artist] = []
    numbered = len(np.unique(labels[labels >= 0])) > NUMBERED
    for label in [UNKNOWN, BACKGROUND, *range(len(names))]:  # later ones are drawn on top
        chosen = points[labels == label]
        if not len(chosen):
            continue
        name = REST[label][0] if label in REST else short(str(names[label]))
        text = f"{label} {name}" if numbered and label >= 0 else name
        axes.plot(*chosen.T, label=text, **_look(label, num_points=len(points)))
        handles += axes.plot([], [], label=text, **_look(label, num_points=0))
        if numbered and label >= 0:
            halo = [withStroke(linewidth=1.5, foreground="white")]
            x, y = np.median(chosen, axis=0)
            axes.text(x, y, str(label), fontsize=6, path_effects=halo, **CENTRED)
    axes.set(xticks=[], yticks=[], title=title, aspect="equal", adjustable="datalim")
    axes.spines[:].set_visible(True)
    legend_below(axes, handles, gap=1.0, handlelength=1.0)


def _look(label: int, *, num_points: int) -> dict[str, Any]:
    """Marker, colour and size of a class: smaller in a large cloud, the rest as thin crosses."""
    size = float(np.clip(60 / np.sqrt(max(num_points, 1)), 2, 4.5))
    if label in REST:
        _, marker, colour = REST[label]
        look = {"marker": marker, "markeredgewidth": 0.7, "markersize": 1.3 * size, "alpha": 0.7}
    else:
        marker, colour = MARKERS[label // len(PALETTE) % len(MARKERS)], PALETTE[label % len(PALETTE)]
        look = {"marker": marker, "markeredgewidth": 0.0, "markersize": size, "alpha": 0.85}
    return {"linestyle": "none", "color": colour, **look}
