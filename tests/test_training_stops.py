"""Training stops with place and advice where it diverges or memory is out."""

import math
from pathlib import Path

import pytest
import torch
from small_trainings import (
    Plain,
    _each_epoch_is_kept,  # noqa: F401 (fixture)
    run,
)
from torch import Tensor, nn

from osr.devices import memory_advice
from osr.errors import InputError


class DivergingLoss(nn.Module):
    """Turns into NaN or infinity at its n-th call (from 1)."""

    def __init__(self, call: int, value: float) -> None:
        super().__init__()
        self.left, self.value = call, value

    def forward(self, logits: Tensor, _features: Tensor, _labels: Tensor) -> Tensor:
        self.left -= 1
        return logits.square().mean() * (self.value if self.left == 0 else 1.0)


# Per epoch four training steps, then two validation batches: call 8 is step 6, in epoch 2.
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("call", "place"),
    [
        (1, "the loss was NaN or infinite at step 1, in epoch 1"),
        (8, "the loss was NaN or infinite at step 6, in epoch 2"),
        (5, "the validation loss was NaN or infinite after epoch 1"),
    ],
)
def test_divergence_stops_with_place_and_advice(tmp_path: Path, call: int, place: str, value: float) -> None:
    with pytest.raises(InputError) as error:
        run(tmp_path / "c.pt", loss=DivergingLoss(call, value))
    assert str(error.value) == (
        f"Training diverged: {place}; train.lr is 0.05: try a tenth of it, "
        "more than 1 train.warmup_epochs, or train.precision 32-true."
    )
    # What was finished before is kept.
    assert (tmp_path / "c.pt").is_file() == (call == 8)


def test_a_huge_learning_rate_is_called_divergence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.lr is 1e\+30: try a tenth"):
        run(tmp_path / "c.pt", optimizer="sgd", lr=1e30, warmup_epochs=0)


class Hungry(Plain):
    """Asks for more memory than there is, from its second epoch on."""

    def train(self, mode: bool = True) -> "Hungry":
        self.epochs = getattr(self, "epochs", 0) + mode
        return super().train(mode)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.epochs > 1:
            torch.empty(1 << 60, dtype=torch.uint8)
        return super().forward(images)


def test_out_of_memory_says_which_batch_size_to_try(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        run(tmp_path / "c.pt", network=Hungry(), accumulate_batches=2)
    assert str(error.value) == (
        "Out of memory: train.batch_size is 16: try 8 with train.accumulate_batches 4, which makes the same "
        "steps."
    )
    assert (tmp_path / "c.pt").is_file()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_kinds_of_memory(error: Exception) -> None:
    with pytest.raises(InputError, match=r"^Out of memory: buy some\.$"), memory_advice("buy some"):
        raise error
    with pytest.raises(RuntimeError, match="shapes"), memory_advice("buy some"):
        raise RuntimeError("shapes differ")
