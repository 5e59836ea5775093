"""How fast ResNet-18 learns CIFAR-10 images on this CPU: our loop, a plain one, and nothing but the steps.

    python -m benchmarks.training [number of images] [folder of cifar10.npz]

All train timm's resnet18 with the stem of presets/openood_resnet18.yaml by SGD on batches of 128 and take
turns in this process; printed are images per second, the ratio to the plain loop (median and range over the
rounds), and our overhead in processor time, which other programs on the machine hardly touch.

plain    PIL images, torchvision's padded crop and mirror, a DataLoader with as many workers as threads,
         float32, the usual layout: what a tutorial shows.
bare     forward, backward and step on one batch that is ready, nothing else.
ours     osr.training.loop.train: the same augmentation on whole batches, from its first batch to validation.

Bare and ours run in float32 and in bf16-mixed with channels_last, two settings of the section `train`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from osr.data.batches import Batch, TensorImages
from osr.losses.cross_entropy import CrossEntropy
from osr.models.backbones import build_backbone
from osr.params import load_params
from osr.training.loop import train
from osr.training.settings import TrainSettings

BATCH, ROUNDS, CLASSES = 128, 3, 10
Times = tuple[float, float]  # images per second; processor seconds of this process
FAST = {"precision": "bf16-mixed", "channels_last": True}


class Clock:
    """Starts with its making."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def read(self, num_images: int) -> Times:
        """Images per second, and processor seconds."""
        return num_images / (time.perf_counter() - self.wall), time.process_time() - self.processor


@dataclass(frozen=True)
class Clocked(TensorImages):
    """Images that note when an epoch over them begins, to train or to validate."""

    clocks: list[Clock] = field(default_factory=list)

    def to(self, _device: torch.device) -> Clocked:
        """Themselves: they are where they are needed."""
        return self

    def epoch_batches(self, settings: TrainSettings, **process: int) -> Iterator[Batch]:
        """See `TensorImages`."""
        self.clocks.append(Clock())
        yield from super().epoch_batches(settings, **process)

    def batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """See `TensorImages`."""
        self.clocks.append(Clock())
        yield from super().batches(batch_size, start=start)


class Network(nn.Module):
    """The network of all loops, without its input's normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = build_backbone(
            "resnet18", weights="none", channels=3, image_size=32, small_image_stem=True
        )
        self.head = nn.Linear(512, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of uint8 images, or of float ones in 0..1."""
        pixels = images.float() / 255 if images.dtype == torch.uint8 else images
        features = self.backbone(pixels)
        return self.head(features), features


def plain(images: np.ndarray, labels: np.ndarray) -> Callable[[], Times]:
    """Runs an epoch of the plain loop."""
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    class Pictures(Dataset):
        def __init__(self) -> None:
            self.transform = transforms.Compose(
                [
                    transforms.RandomCrop(32, padding=4),
                    transforms.RandomHorizontalFlip(),
                    transforms.ToTensor(),
                ]
            )

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return self.transform(Image.fromarray(images[index])), int(labels[index])

    workers = torch.get_num_threads()
    loader = DataLoader(Pictures(), BATCH, shuffle=True, num_workers=workers, persistent_workers=True)
    network, criterion = Network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def epoch() -> Times:
        network.train()
        clock = Clock()
        for batch, targets in loader:
            optimizer.zero_grad()
            criterion(network(batch)[0], targets).backward()
            optimizer.step()
        return clock.read(len(images))

    return epoch


def bare(images: np.ndarray, labels: np.ndarray, **changes: object) -> Callable[[], Times]:
    """Nothing but steps on the same batch."""
    network = Network()
    fabric = Fabric(accelerator="cpu", devices=1, precision=changes.get("precision", "32-true"))
    if changes.get("channels_last"):
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    model, optimizer = fabric.setup(network, optimizer)
    batch = torch.from_numpy(np.ascontiguousarray(images[:BATCH].transpose(0, 3, 1, 2)))
    targets, steps = torch.from_numpy(labels[:BATCH]), len(images) // BATCH

    def epoch() -> Times:
        model.train()
        clock = Clock()
        for _ in range(steps):
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(model(batch)[0], targets))
            optimizer.step()
        return clock.read(steps * BATCH)

    return epoch


def ours(images: np.ndarray, labels: np.ndarray, **changes: object) -> Callable[[], Times]:
    """One epoch of `osr.training.loop.train`."""
    shipped = load_params(Path("params.yaml")).train
    off = dict.fromkeys(("rotation_degrees", "scale", "shear"), 0.0)
    augmentation = shipped.augmentation.model_copy(update={**off, "shift_pixels": 4, "flip": True})
    chosen = {
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "batch_size": BATCH,
        "accelerator": "cpu",
        "epochs": 100,
        "max_time_s": 1e-9,
        "augmentation": augmentation,
    }
    settings: TrainSettings = shipped.model_copy(update=chosen | changes)
    data = Clocked(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels)
    )
    few = Clocked(data.images[:64], data.labels[:64])

    def epoch() -> Times:
        with tempfile.TemporaryDirectory() as folder:
            train(
                Network(),
                CrossEntropy(label_smoothing=0.0),
                train_data=data,
                val_data=few,
                settings=settings,
                checkpoint=Path(folder) / "c.pt",
                on_epoch=lambda _row, _rate: None,
            )
        began, ended = data.clocks[-1], few.clocks[-1]
        return len(data) / (ended.wall - began.wall), ended.processor - began.processor

    return epoch


def main(num_images: int, folder: Path) -> None:
    """Print the table."""
    with np.load(folder / "cifar10.npz") as arrays:
        images = arrays["x_train"][:num_images]
        labels = arrays["y_train"][:num_images].astype(np.int64)
    loops = {
        "plain": plain(images, labels),
        "bare, float32": bare(images, labels),
        "ours, float32": ours(images, labels),
        "bare, bf16-mixed, channels_last": bare(images, labels, **FAST),
        "ours, bf16-mixed, channels_last": ours(images, labels, **FAST),
    }
    found = np.array([[epoch() for epoch in loops.values()] for _ in range(ROUNDS)])
    print(f"{num_images} images, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, rates in zip(loops, found[:, :, 0].T, strict=True):
        ratios = rates / found[:, 0, 0]
        spread = f"{np.median(ratios):5.2f} ({ratios.min():.2f} to {ratios.max():.2f}) x plain"
        print(f"{name:34s} {np.median(rates):7.0f} images/s {spread}")
    seconds = dict(zip(loops, found[:, :, 1].T, strict=True))
    for setting in ("float32", "bf16-mixed, channels_last"):
        overhead = 100 * (seconds[f"ours, {setting}"] / seconds[f"bare, {setting}"] - 1)
        spread = f"{np.median(overhead):.1f} % ({overhead.min():.1f} to {overhead.max():.1f})"
        print(f"overhead of our loop in {setting}: {spread} of processor time")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 1024, Path(arguments[1] if len(arguments) > 1 else "data"))
