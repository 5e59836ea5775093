"""Draws how osr is built, from the code: `python tests/draw_rooms.py` writes docs/pictures/rooms.svg.

A row holds the rooms that need none of their own row or of a row above it; a line is an import. Imports that
follow from others are left out: training imports losses, which rests on models, so it has no line to models.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from html import escape

from code_deps import ROOT, imported_files, room_of
from test_rooms import FILES, FLOORS

PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
Edges = Mapping[str, set[str]]
BOX, GAP, ROW, PAD = 26, 14, 64, 16
COLOURS = {"osr": ("#e8eaf6", "#3949ab"), "pipeline": ("#fff3e0", "#ef6c00")}


@functools.cache
def room_imports() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    found: dict[str, set[str]] = {room: set() for room in FLOORS}
    for file in FILES:
        if (room := room_of(file)) in found:
            found[room] |= {room_of(other) for other in imported_files(file)} & found.keys() - {room}
    return found


def below(room: str, edges: Edges) -> set[str]:
    """All that a room rests on."""
    return edges[room] | {other for each in edges[room] for other in below(each, edges)}


def without_implied(edges: Edges) -> dict[str, set[str]]:
    """The edges that do not follow from others."""
    return {
        room: {one for one in used if not any(one in below(other, edges) for other in used)}
        for room, used in edges.items()
    }


def rows_of(edges: Edges) -> list[list[str]]:
    """The rooms by the longest way down from them, the ground first."""
    heights: dict[str, int] = {}
    for room in FLOORS:  # what a room imports stands before it
        heights[room] = max((heights[other] + 1 for other in edges[room]), default=0)
    return [[room for room in FLOORS if heights[room] == row] for row in range(max(heights.values()) + 1)]


def draw(rows: Sequence[Sequence[str]], edges: Edges) -> str:
    """An SVG of the rooms as boxes, the first row at the bottom, with a line from each to what it imports."""
    order = _ordered(rows, edges)
    sizes = {name: 7.2 * len(name) + 18 for row in order for name in row}
    widths = [sum(sizes[name] + GAP for name in row) - GAP for row in order]
    width, height = max(widths) + 2 * PAD, len(order) * ROW - (ROW - BOX) + 2 * PAD
    places: dict[str, tuple[float, float]] = {}
    for number, (row, row_width) in enumerate(zip(order, widths, strict=True)):
        left = (width - row_width) / 2
        top = PAD + ROW * (len(order) - 1 - number)
        for name in row:
            places[name] = (left + sizes[name] / 2, top)
            left += sizes[name] + GAP
    lines = [_line(places[name], places[other]) for name in places for other in sorted(edges[name])]
    boxes = [_box(name, *place, sizes[name]) for name, place in places.items()]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-size="12"'
    head += ' font-family="ui-monospace, monospace"><rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([head, *lines, *boxes, "</svg>", ""])


def _ordered(rows: Sequence[Sequence[str]], edges: Edges) -> list[list[str]]:
    """Each row in the order of the mean place of what its boxes need, so that lines cross seldom."""
    places: dict[str, float] = {}
    order = []
    for row in rows:
        means = {}
        for position, name in enumerate(row):
            needed = [places[other] for other in edges[name] if other in places]
            means[name] = sum(needed) / len(needed) if needed else (position + 0.5) / len(row)
        order.append(sorted(row, key=lambda name: (name.startswith("pipeline"), means[name], name)))
        places |= {name: (position + 0.5) / len(row) for position, name in enumerate(order[-1])}
    return order


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from a box to one below it."""
    (x, y), (to_x, to_y) = start, end
    y += BOX
    middle = (y + to_y) / 2
    path = f"M{x:.0f} {y} C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y}"
    return f'<path d="{path}" fill="none" stroke="#90a4ae" stroke-width="1"/>'


def _box(name: str, x: float, y: float, width: float) -> str:
    """A box with its name."""
    fill, stroke = COLOURS[name.split("/")[0]]
    rect = f'<rect x="{x - width / 2:.0f}" y="{y}" width="{width:.0f}" height="{BOX}" rx="4"'
    text = f'<text x="{x:.0f}" y="{y + 17}" text-anchor="middle">{escape(name)}</text>'
    return f'{rect} fill="{fill}" stroke="{stroke}"/>{text}'


def picture() -> str:
    """What the file must hold."""
    imports = room_imports()
    return draw(rows_of(imports), without_implied(imports))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
