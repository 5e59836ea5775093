"""What a run's data set is called: in reports, rows and exported folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Images of the user's own: what names them.
OWN_DATA = {"arrays": "dataset.arrays.file", "csv": "dataset.csv.file", "folder": "dataset.folder"}


def data_set_name(settings: Mapping[str, Any]) -> str:
    """The name of a published set; of the user's own images the folder or file they stand in.

    Args:
        settings: flattened, dotted key -> value.
    """
    name = str(settings["dataset.name"])
    if name not in OWN_DATA:
        return name
    place = Path(str(settings["dataset.root"]), str(settings[OWN_DATA[name]])).resolve().name
    return place if name == "folder" else f"{name} of {place}"
