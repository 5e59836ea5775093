"""A small training, networks for it, and a loss that ends it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from osr.data.batches import TensorImages
from osr.losses.cross_entropy import CrossEntropy
from osr.params import load_params
from osr.training import keeping
from osr.training.loop import Progress, train
from osr.training.settings import TrainSettings

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train
STILL = TRAIN.augmentation.model_copy(
    update={"shift_pixels": 0, "rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}
)


def settings(**changes: object) -> TrainSettings:
    small = {
        "epochs": 5,
        "batch_size": 16,
        "warmup_epochs": 1,
        "lr": 0.05,
        "accelerator": "cpu",
        "augmentation": STILL.model_copy(update={"shift_pixels": 1}),
    }
    return TRAIN.model_copy(update=small | changes)


class Network(nn.Module):
    """Batch norm and dropout, so that a resumed run must restore statistics and draws."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(8, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images.float() / 255)
        return self.head(features), features


def halves(num_images: int, seed: int) -> TensorImages:
    """Noise with the left (label 0) or right (label 1) half brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % 2
    images = torch.randint(0, 120, (num_images, 1, 4, 4), generator=generator)
    for label in (0, 1):
        images[labels == label, :, :, 2 * label : 2 * label + 2] += 120
    return TensorImages(images.to(torch.uint8), labels)


def run(
    checkpoint: Path,
    *,
    network: nn.Module | None = None,
    loss: nn.Module | None = None,
    on_epoch: Callable[[dict[str, float], float], None] = lambda _row, _rate: None,
    num_extra: int = 0,
    **changes: object,
) -> tuple[nn.Module, Progress]:
    network = network or Network()
    progress = train(
        network,
        loss or CrossEntropy(label_smoothing=0.1),
        train_data=halves(50, 1),
        val_data=halves(20, 2),
        settings=settings(**changes),
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        num_extra=num_extra,
    )
    return network, progress


@pytest.fixture(autouse=True)
def _each_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SHORTEST_S", 0.0)


class KilledError(Exception):
    """What a test throws into a training."""


class KillingLoss(CrossEntropy):
    """A loss that ends the training at its n-th call."""

    def __init__(self, calls: int) -> None:
        super().__init__(label_smoothing=0.1)
        self.calls = calls

    def forward(self, *batch: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KilledError
        return super().forward(*batch)


def same(mine: nn.Module, theirs: nn.Module) -> bool:
    states = mine.state_dict(), theirs.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Plain(nn.Module):
    """One linear layer: without norms, only the sum of gradients matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(16, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.flatten(1).float() / 255
        return self.head(features), features
