"""The section `dataset` as tests use it, and where the shared image sets lie."""

from pathlib import Path

from osr.data.settings import DatasetSettings

SHARED = Path(__file__).parents[2] / "shared"


def dataset(name: str, root: Path | str = "data", **arrays: object) -> DatasetSettings:
    """The shipped section with another name and root, without download."""
    names = {
        "file": "images.npz",
        "images": "images",
        "labels": "labels",
        "test_images": "none",
        "test_labels": "none",
        "part": "auto",
        "group": ("auto",),
        "class_names": "auto",
    }
    return DatasetSettings(name=name, root=str(root), download=False, flip_safe="auto", arrays=names | arrays)
