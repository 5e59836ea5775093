"""The section `dataset` as tests use it, and where the shared image sets lie."""

from pathlib import Path

from osr.data.settings import DatasetSettings
from osr.params import load_params

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
SHIPPED = load_params(ROOT / "params.yaml").dataset.model_dump()


def dataset(name: str, root: Path | str = "data", **arrays: object) -> DatasetSettings:
    """The shipped section with another name and root, without download."""
    changes = {"name": name, "root": str(root), "download": False, "arrays": SHIPPED["arrays"] | arrays}
    return DatasetSettings(**SHIPPED | changes)
