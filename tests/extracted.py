"""A small network, images for it, and their outputs."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from osr.data.batches import ArrayImages
from osr.data.hashes import image_hashes
from osr.detectors.registry import DETECTORS
from osr.detectors.settings import DetectorsSettings
from osr.inference.extraction import Stored, extract
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.models.settings import BackboneSettings, HeadSettings, ImageSettings, ModelSettings, NeckSettings
from osr.outputs import Outputs
from osr.params import load_params
from osr.splits.split import Split

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 1), dtype=np.uint8)


def build(
    *,
    neck: str = "linear",
    bias: bool = True,
    head: str = "linear",
    width: int = 5,
    extra: int = 0,
    temperature: float = 1.0,
    rotations: bool = False,
) -> OpenSetModel:
    torch.manual_seed(0)
    settings = ModelSettings(
        image_size="auto",
        image=ImageSettings(mean=(), std=(), interpolation="auto", crop_fraction="auto"),
        backbone=BackboneSettings(
            name="small_convnet",
            weights="none",
            small_image_stem="auto",
            frozen_stages="auto",
            classifier="none",
            options={},
        ),
        neck=NeckSettings(name=neck, width=width, tau=0.1),
        head=HeadSettings(name=head, bias=bias, scale=16.0, temperature=temperature, extra_classes=extra),
        rotation_head=rotations,
    )
    model = OpenSetModel(settings, ImageFormat(6, 1, (0.4,), (0.3,)), ("a", "b", "c"))
    model.train()
    with torch.no_grad():
        model(torch.from_numpy(IMAGES.transpose(0, 3, 1, 2)))  # moves the batch norm's statistics
    return model


def split_of_images() -> Split:
    """Of IMAGES, all of known classes: two thirds are trained on."""
    rows = np.arange(len(IMAGES))
    parts = {"train": rows[:20], "val": rows[20:25], "test": rows[25:]}
    names, hashes = ("a", "b", "c"), image_hashes(IMAGES)
    return Split(rows % 3, names, known=(0, 1, 2), background=(), unknown=(), **parts, hashes=hashes)


def save_split(folder: Path, digest: str | None) -> None:
    """That split and its images, whose digest is said to be another one, where another is given."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", IMAGES)
    split, summary = split_of_images(), folder / "split.json"
    split.save(folder)
    summary.write_text(summary.read_text().replace(split.digest, digest or split.digest))


def data_of(images: np.ndarray, rows: np.ndarray, labels: np.ndarray) -> ArrayImages:
    return ArrayImages(images, rows, torch.from_numpy(labels))


def png(image: np.ndarray) -> bytes:
    """The file of a grey image."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "PNG")
    return file.getvalue()


def easy(without: set[str]) -> DetectorsSettings:
    """All detectors but some, for few images."""
    shipped = load_params(Path(__file__).parents[1] / "params.yaml").detectors
    return shipped.model_copy(
        update={
            "enabled": tuple(name for name in DETECTORS if name not in without),
            "openmax": shipped.openmax.model_copy(update={"tail_size": 6, "correct_only": False}),
            "knn": shipped.knn.model_copy(update={"num_neighbors": 3}),
            "nnguide": shipped.nnguide.model_copy(update={"num_neighbors": 3}),
        }
    )


def many(
    model: OpenSetModel, stored: Stored, *, rows: np.ndarray | None = None, batch_size: int = 8
) -> Outputs:
    rows = np.arange(30) if rows is None else rows
    data = data_of(IMAGES, rows, rows % 3)
    return extract(model, data, index=rows, batch_size=batch_size, device=CPU, title="test", stored=stored)
