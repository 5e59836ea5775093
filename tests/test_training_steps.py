"""Steps of a training: accumulated, clipped, averaged; layout, precision, compilation and sharing out."""

from functools import partial
from pathlib import Path

import pytest
import torch
from small_trainings import (
    STILL,
    Plain,
    _each_epoch_is_kept,  # noqa: F401 (fixture)
    halves,
    run,
    same,
)
from torch import Tensor, nn

from osr.errors import InputError
from osr.losses.cross_entropy import CrossEntropy
from osr.training.loop import evaluate
from osr.training.sharding import shard


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    still = {
        "epochs": 3,
        "augmentation": STILL,
    }
    small = {"batch_size": 5, "accumulate_batches": 2}
    one, one_progress = run(tmp_path / "one.pt", network=Plain(), batch_size=10, **still)
    two, two_progress = run(tmp_path / "two.pt", network=Plain(), **small, **still)
    torch.testing.assert_close(two.state_dict(), one.state_dict(), atol=1e-6, rtol=1e-5)
    for mine, theirs in zip(two_progress.history, one_progress.history, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    """One step of SGD at rate 1: the weights move by the gradient, no further than the limit."""
    chosen = {"optimizer": "sgd", "momentum": 0.0, "lr": 1.0, "weight_decay": 0.0, "batch_size": 50}
    moved = []
    for limit in (0.0, 0.01, 100.0):
        before = Plain().state_dict()
        after, _ = run(
            tmp_path / f"{limit}.pt",
            network=Plain(),
            epochs=1,
            warmup_epochs=0,
            grad_clip_norm=limit,
            **chosen,
        )
        steps = [(after.state_dict()[name] - before[name]).flatten() for name in before]
        moved.append(torch.cat(steps))
    assert moved[0].norm() > 0.1
    torch.testing.assert_close(moved[1], 0.01 * moved[0] / moved[0].norm(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(moved[2], moved[0])


def test_the_average_of_the_weights_is_judged_and_kept(tmp_path: Path) -> None:
    weights: list[Tensor] = []

    class Watched(CrossEntropy):
        def forward(self, *batch: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                weights.append(network.head.weight.detach().clone())
            return super().forward(*batch)

    network, chosen = Plain(), {"epochs": 1, "batch_size": 10, "lr": 0.05, "warmup_epochs": 0}
    averaged, progress = run(
        tmp_path / "b.pt",
        network=network,
        loss=Watched(label_smoothing=0.1),
        ema_decay=0.75,
        **chosen,
    )
    # The weights after steps 1 to 4 are seen before steps 2 to 5.
    average = weights[1]
    for weight in weights[2:]:
        average = average + 0.25 * (weight - average)
    last = 4 * (averaged.head.weight - average) + average  # the weight that the fifth step must have left
    plain, _ = run(tmp_path / "c.pt", network=Plain(), **chosen)
    torch.testing.assert_close(last, plain.head.weight, rtol=1e-4, atol=1e-5)
    numbers = evaluate(averaged, CrossEntropy(label_smoothing=0.1), halves(20, 2), batch_size=10)
    assert numbers["val/loss"] == pytest.approx(progress.history[0]["val/loss"])


class Convolution(nn.Module):
    """Notes the layout its convolution gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 2)
        self.seen: set[bool] = set()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(images.float() / 255)
        self.seen.add(maps.is_contiguous(memory_format=torch.channels_last))
        return self.head(maps.flatten(1)), maps.flatten(1)


def test_channels_last_is_another_layout_of_the_same_network(tmp_path: Path) -> None:
    usual, _ = run(tmp_path / "a.pt", network=Convolution(), epochs=2, lr=1e-3)
    last, _ = run(tmp_path / "b.pt", network=Convolution(), epochs=2, lr=1e-3, channels_last=True)
    assert usual.seen == {False}
    assert last.seen == {True}
    torch.testing.assert_close(last.state_dict(), usual.state_dict(), atol=1e-5, rtol=1e-4)


def test_half_precision_learns_too(tmp_path: Path) -> None:
    network, progress = run(tmp_path / "c.pt", precision="bf16-mixed", epochs=12)
    assert progress.history[progress.best_epoch - 1]["val/accuracy"] >= 0.95
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(tmp_path: Path) -> None:
    usual, _ = run(tmp_path / "a.pt", network=Convolution(), epochs=2, lr=1e-3)
    compiled, _ = run(tmp_path / "b.pt", network=Convolution(), epochs=2, lr=1e-3, compile=True)
    torch.testing.assert_close(compiled.state_dict(), usual.state_dict(), atol=1e-5, rtol=1e-4)
    again, _ = run(tmp_path / "b.pt", network=Convolution(), epochs=2, lr=1e-3, compile=True)
    assert same(again, compiled)


def test_a_network_that_cannot_be_compiled_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError("no compiler")

    monkeypatch.setattr("torch.compile", partial(torch.compile, backend=fail))
    with pytest.raises(InputError, match=r"^train.compile is true, but .*no compiler.*; use false\.$"):
        run(tmp_path / "c.pt", network=Plain(), compile=True)


def test_a_weight_that_cannot_be_shared_out_is_named() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    network[1].weight = nn.Parameter(torch.ones(3, 2).T)
    with pytest.raises(InputError, match=r"cannot be shared out: the numbers of its weight 1\.weight"):
        shard(network, None)
