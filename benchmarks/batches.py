"""How fast augmented batches are made: whole batches at once against PIL images in a DataLoader.

    python -m benchmarks.batches [cifar10.npz]

The same augmentations: here in one thread, there in two workers with torchvision's transforms. Both make
(128, 3, 32, 32) uint8 batches, of 50,000 training images or, without a file, random pixels.
Each round times both, one after the other; printed are medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from osr.data.batches import TensorImages
from osr.params import load_params
from osr.training.settings import TrainSettings

WORKERS, ROUNDS, BATCH_SIZE, PADDING = 2, 5, 128, 4
RECIPES = {"crop, flip": 0, "crop, flip, RandAugment (2, 9)": 2}
NUM_PIL = {0: 20_000, 2: 10_000}  # images per round on the slow side; all of them on the other


class PilImages(Dataset[Any]):
    """What torchvision's CIFAR10 does: an array row to a PIL image, then the transform."""

    def __init__(self, images: NDArray[np.uint8], transform: transforms.Compose) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.transform(Image.fromarray(self.images[row])), 0


def pil_loader(images: NDArray[np.uint8], num_ops: int) -> DataLoader[Any]:
    """The PIL path, whose workers have started."""
    steps: list[Any] = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()]
    if num_ops:
        steps.append(transforms.RandAugment(num_ops=num_ops, magnitude=9))
    data = PilImages(images, transforms.Compose([*steps, transforms.PILToTensor()]))
    return DataLoader(data, BATCH_SIZE, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def settings(num_ops: int) -> TrainSettings:
    """The same augmentation for this library."""
    train = load_params(Path("params.yaml")).train
    off = dict.fromkeys(("rotation_degrees", "scale", "shear"), 0.0)
    on = {"shift_pixels": PADDING, "flip": True, "randaugment_num_ops": num_ops, "randaugment_magnitude": 9}
    augmentation = train.augmentation.model_copy(update={**off, **on})
    return train.model_copy(update={"augmentation": augmentation, "batch_size": BATCH_SIZE})


def rate(batches: Iterable[Any]) -> float:
    """Images per second of one pass."""
    start = time.perf_counter()
    count = sum(len(images) for images, _ in batches)
    return count / (time.perf_counter() - start)


def main() -> None:
    """Print one Markdown row per recipe."""
    if len(sys.argv) > 1:
        images = np.load(sys.argv[1], allow_pickle=False)["x_train"]
    else:
        images = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    data = TensorImages(pixels, torch.zeros(len(images), dtype=torch.int64))
    torch.set_num_threads(1)
    print(
        "| augmentation | whole batches, images/s | PIL + DataLoader, images/s | ratio |\n|---|---|---|---|"
    )
    for name, num_ops in RECIPES.items():
        loader, chosen = pil_loader(images[: NUM_PIL[num_ops]], num_ops), settings(num_ops)
        next(iter(loader)), next(iter(data.epoch_batches(chosen, epoch=0)))
        pairs = [(rate(data.epoch_batches(chosen, epoch=epoch)), rate(loader)) for epoch in range(ROUNDS)]
        ours, theirs = (median(side) for side in zip(*pairs, strict=True))
        ratios = [our / their for our, their in pairs]
        spread = f"{median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f})"
        print(f"| {name} | {ours:,.0f} | {theirs:,.0f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
