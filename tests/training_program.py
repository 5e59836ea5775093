"""A training in processes of its own, for tests that kill it or let several share it.

`python tests/training_program.py FOLDER JSON`, JSON being changes of the section `train`, whether the network
has norms and dropout, whether it learns from mixed images and quarter turns beside the loss, the epoch in
which the second process dies, and the weights of a unit of FSDP.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from osr.data.batches import Batch, TensorImages
from osr.losses.base import Loss
from osr.losses.center import Center
from osr.losses.cross_entropy import CrossEntropy
from osr.params import load_params
from osr.training import keeping, sharding
from osr.training.loop import train

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train


class Network(nn.Module):
    """A linear layer and one convolution, with batch norm and dropout if they are asked for."""

    def __init__(self, *, with_state: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        extras = [nn.BatchNorm2d(8), nn.Dropout(0.3)] if with_state else []
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *extras, nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(8 * 64, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.judge(self.embed(self.preprocess(images)))

    def preprocess(self, images: Tensor) -> Tensor:
        return images.float() / 255

    def embed(self, pixels: Tensor) -> Tensor:
        return self.body(pixels)

    def judge(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(features), features


class TurnedNetwork(Network):
    """With a second head that tells quarter turns."""

    def __init__(self, *, with_state: bool) -> None:
        super().__init__(with_state=with_state)
        self.turns = nn.Linear(8 * 64, 4)


class Watched(TensorImages):
    """Notes which images this process sees, batch by batch."""

    def to(self, _device: torch.device) -> "Watched":
        return self

    def epoch_batches(self, *arguments: object, **options: object) -> Iterator[Batch]:
        if (options["rank"], options["epoch"]) == (1, DEATH.get("epoch")):
            os._exit(3)
        for images, labels in super().epoch_batches(*arguments, **options):
            SEEN.append([hashlib.md5(image.numpy().tobytes()).hexdigest() for image in images])
            yield images, labels


SEEN: list[list[str]] = []
DEATH: dict[str, object] = {}


def data(num_images: int, seed: int) -> Watched:
    """Noise whose brightest third says the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % 3
    images = torch.randint(0, 120, (num_images, 1, 8, 8), generator=generator)
    for label in range(3):
        images[labels == label, :, :, 2 * label : 2 * label + 2] += 100
    return Watched(images.to(torch.uint8), labels)


def main(folder: Path, changes: dict[str, object]) -> None:
    """Train; the first process leaves weights and history, each one what it saw."""
    torch.set_num_threads(1)
    keeping.SHORTEST_S = 0.0  # each epoch is kept
    beside = changes.pop("beside", False)
    moved = TRAIN.augmentation.model_copy(update=SHIFTED | (BESIDE if beside else {}))
    network = (TurnedNetwork if beside else Network)(with_state=changes.pop("with_state", False))
    DEATH["epoch"] = changes.pop("dies_in", None)
    sharding.UNIT = changes.pop("unit", sharding.UNIT)
    settings = TRAIN.model_copy(
        update={"accelerator": "cpu", "warmup_epochs": 1, "augmentation": moved} | changes
    )
    called: list[float] = []

    def note(row: dict[str, float], _rate: float) -> None:
        called.append(row["epoch"])
        (folder / "epoch").write_text(str(row["epoch"]))

    (folder / "started").touch()
    loss: Loss = Center(num_classes=3, num_features=8 * 64, weight=0.01, label_smoothing=0.1)
    chosen = {"settings": settings, "checkpoint": folder / "state" / "c.pt", "on_epoch": note}
    if beside:
        loss, chosen["rotation_weight"] = CrossEntropy(label_smoothing=0.1), 0.5
    progress = train(network, loss, train_data=data(97, 1), val_data=data(30, 2), **chosen)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    (folder / f"process_{rank}.json").write_text(json.dumps({"seen": SEEN, "called": called}))
    if rank == 0:
        (folder / "history.json").write_text(json.dumps(progress.history))
        save_file({**network.state_dict(), **loss.state_dict()}, folder / "weights.safetensors")


BESIDE = {"mixup_alpha": 10.0, "mix_beside": 0.5, "pixmix": True, "pixmix_fractals": 4}
SHIFTED = {"shift_pixels": 1, "rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}

if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
