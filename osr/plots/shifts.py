"""Known images under corruptions: whether their class is still right, and whether they are still accepted."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes

from osr.errors import InputError
from osr.plots.style import INK, LINE_STYLES, MARKERS, PALETTE, UNKNOWN_COLOUR, legend_below

COLOURS = tuple(colour for colour in PALETTE if colour != UNKNOWN_COLOUR)
Shares = Mapping[int, float]  # severity -> share; 0 stands for the images as they are


def shifts(
    panels: tuple[Axes, Axes],
    accuracy: Mapping[str, Shares],
    accepted: Mapping[str, Shares],
    *,
    unknown: Mapping[str, float],
    detector: str,
) -> None:
    """Accuracy on the left; on the right what is accepted, beside what is accepted of unknown sets.

    Where a corrupted image is still classified right, its line on the right should stay up: a detector that
    lets it fall to the lines of the unknowns rejects the corruption, not an unknown class.

    Args:
        panels: where to draw.
        accuracy: kind -> severity -> share of the known images whose class is predicted right.
        accepted: the same kinds and severities, share accepted as known.
        unknown: unknown set -> share of its images that is accepted.
        detector: whose threshold it is.

    Raises:
        InputError: no corruption, or other ones on the right.
    """
    if not accuracy or accuracy.keys() != accepted.keys():
        raise InputError("There is no corruption to draw, or accuracy and acceptance are of different ones.")
    handles = []
    for axes, curves in zip(panels, (accuracy, accepted), strict=True):
        lines = []
        for position, (kind, shares) in enumerate(curves.items()):
            places = sorted(shares)
            (line,) = axes.plot(
                places,
                [shares[place] for place in places],
                marker=MARKERS[position % len(MARKERS)],
                markersize=3.5,
                label=kind,
                color=COLOURS[position % len(COLOURS)],
            )
            lines.append(line)
        axes.set(xlabel="severity (0: as they are)", ylim=(-0.02, 1.02), xticks=range(6))
        handles.append(lines)
    panels[0].set_ylabel("known images classified right")
    panels[1].set_ylabel("images accepted")
    for position, (name, share) in enumerate(unknown.items()):
        dashes = LINE_STYLES[(position + 1) % len(LINE_STYLES)]
        line = panels[1].axhline(
            share, color=UNKNOWN_COLOUR, linewidth=1.0, linestyle=dashes, label=f"unknown: {name}"
        )
        handles[1].append(line)
    panels[1].set_title(detector, color=INK)
    for axes, lines in zip(panels, handles, strict=True):
        legend_below(axes, lines)
