"""The house: no circle of imports, and no room that imports one above it."""

import pytest
from code_deps import ROOT, imported_files, room_of

# From the ground up: a room may use those before it.
FLOORS = (
    "osr/version.py",
    "osr/errors.py",
    "osr/progress.py",
    "osr/devices.py",
    "osr/frame.py",
    "osr/resampling.py",
    "osr/settings",
    "osr/stored",
    "osr/outputs.py",
    "osr/models",
    "osr/calibration",
    "osr/losses",
    "osr/detectors",
    "osr/splits",
    "osr/plots",
    "osr/metrics",
    "osr/data",
    "osr/training",
    "osr/estimation",
    "osr/inference",
    "osr/params.py",
    "osr/held_out_training.py",
    "osr/held_out.py",
    "pipeline/workspace",
    "pipeline/tracking",
    "pipeline/entry.py",
    "pipeline/images.py",
    "pipeline/near_copies.py",
    "pipeline/split_cautions.py",
    "pipeline/inference.py",
    "pipeline/estimate.py",
    "pipeline/report",
    "pipeline/prepare_split.py",
    "pipeline/train.py",
    "pipeline/calibrate.py",
    "pipeline/fit_openmax.py",
    "pipeline/evaluate.py",
    "pipeline/plot.py",
    "pipeline/arguments.py",
    "pipeline/serving_arguments.py",
    "pipeline/places.py",
    "pipeline/experiments",
    "pipeline/starting",
    "pipeline/comparing",
    "pipeline/serving",
    "pipeline/examples.py",
    "pipeline/commands.py",
    "pipeline/cli.py",
)
FILES = [file for top in ("osr", "pipeline") for file in sorted((ROOT / top).rglob("*.py"))]


def test_every_file_stands_in_a_room():
    rooms = {room_of(file) for file in FILES if file.name != "__init__.py"}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize("room", FLOORS)
def test_no_room_imports_one_above_it(room):
    for file in FILES:
        if room_of(file) == room:
            for other in imported_files(file):
                above = FLOORS.index(room_of(other)) > FLOORS.index(room)
                assert not above, f"{file.relative_to(ROOT)} imports {other.relative_to(ROOT)}"


def test_no_circle_of_files():
    """Within a room, too: files are taken away whose imports are all gone, until none is left."""
    waiting = {file: imported_files(file) - {file} for file in FILES}
    while free := {file for file, imports in waiting.items() if not imports & waiting.keys()}:
        waiting = {file: imports for file, imports in waiting.items() if file not in free}
    assert not waiting, sorted(str(file.relative_to(ROOT)) for file in waiting)
