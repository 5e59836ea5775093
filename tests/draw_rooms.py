"""Draws how osr is built, from the code: `python tests/draw_rooms.py` writes docs/pictures/rooms.svg.

A row holds the rooms that need none of their own row or of a row above it, in as many lines as it needs;
what joins two boxes is an import. Imports that follow from others are left out: training imports losses,
which rests on models, so it is not joined to models.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from html import escape

from code_deps import ROOT, imported_files, room_of
from test_rooms import FILES, FLOORS

PICTURE = ROOT / "docs" / "pictures" / "rooms.svg"
Edges = Mapping[str, set[str]]
BOX, GAP, LINE, ROW, PAD, WIDTH = 26, 14, 36, 64, 16, 640
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
    sizes = {name: 7.2 * len(name) + 18 for row in rows for name in row}
    places: dict[str, tuple[float, float]] = {}
    top = 0.0
    for row in _ordered(rows, edges):
        for line in reversed(_broken(row, sizes)):
            left = -(sum(sizes[name] + GAP for name in line) - GAP) / 2
            for name in line:
                places[name] = (left + sizes[name] / 2, top)
                left += sizes[name] + GAP
            top -= LINE
        top -= ROW - LINE
    highest = min(y for _, y in places.values())
    reach = max(abs(x) + sizes[name] / 2 for name, (x, _) in places.items()) + PAD
    places = {name: (x + reach, y - highest + PAD) for name, (x, y) in places.items()}
    width, height = 2 * reach, BOX - highest + 2 * PAD
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


def _broken(row: Sequence[str], sizes: Mapping[str, float]) -> list[list[str]]:
    """A row in lines of about the same number of boxes, none wider than a page."""
    count = 1
    while True:
        each = -(-len(row) // count)
        lines = [list(row[first : first + each]) for first in range(0, len(row), each)]
        if each == 1 or all(sum(sizes[name] + GAP for name in line) - GAP <= WIDTH for line in lines):
            return lines
        count += 1


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    """A curve from a box to one below it."""
    (x, y), (to_x, to_y) = start, end
    y += BOX
    middle = (y + to_y) / 2
    path = f"M{x:.0f} {y:.0f} C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    return f'<path d="{path}" fill="none" stroke="#90a4ae" stroke-width="1"/>'


def _box(name: str, x: float, y: float, width: float) -> str:
    """A box with its name."""
    fill, stroke = COLOURS[name.split("/")[0]]
    rect = f'<rect x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" height="{BOX}" rx="4"'
    text = f'<text x="{x:.0f}" y="{y + 17:.0f}" text-anchor="middle">{escape(name)}</text>'
    return f'{rect} fill="{fill}" stroke="{stroke}"/>{text}'


def picture() -> str:
    """What the file must hold."""
    imports = room_imports()
    return draw(rows_of(imports), without_implied(imports))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
