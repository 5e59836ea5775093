"""Pictures, folders of three animals, and the settings that read them."""

from pathlib import Path

import numpy as np
from datasets import SHIPPED
from PIL import Image

from osr.data.settings import DatasetSettings
from osr.params import Params, load_params

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)


def section(root: Path, name: str = "folder", **changes: object) -> DatasetSettings:
    return DatasetSettings(**SHIPPED | {"name": name, "root": str(root)} | changes)


def picture(path: Path, size: tuple[int, int] = (8, 8), mode: str = "RGB", **options: object) -> np.ndarray:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = RNG.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path, **options)
    return pixels


def animals(root: Path, *, parts: tuple[str, ...] = ("",), count: int = 8, size: int = 8) -> None:
    for part in parts:
        for label in ("cat", "ruddy duck", "Ÿak"):
            for number in range(count):
                picture(root / "images" / part / label / f"no {number} é.png", (size, size))


def params(root: Path, **dataset: object) -> Params:
    changed = load_params(ROOT / "params.yaml").model_dump()
    changed["dataset"] |= {"name": "folder", "root": str(root)} | dataset
    changed["split"] |= {"protocol": "first_k", "num_known": 2}
    changed["model"]["image_size"] = 6
    changed["detectors"]["enabled"] = ["maxlogit"]  # openmax needs more training images
    return Params.model_validate(changed)
