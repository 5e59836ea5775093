"""Training: it learns, keeps the best epoch, survives being killed at any point, stops when it diverges."""

import io
import math
import os
import platform
import resource
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from osr.data.batches import TensorImages
from osr.devices import memory_advice
from osr.errors import InputError
from osr.losses.center import Center
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.outlier_exposure import OutlierExposure
from osr.params import load_params
from osr.training import keeping
from osr.training.loop import Progress, evaluate, train
from osr.training.schedules import lr_factor
from osr.training.settings import TrainSettings
from osr.training.sharding import shard

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


class ScriptedNetwork(nn.Module):
    """Its answers on validation images follow a list of (accuracy, confidence), one per epoch."""

    def __init__(self, script: list[tuple[float, float]]) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("epoch", torch.tensor(-1))
        self.script = script

    def train(self, mode: bool = True) -> "ScriptedNetwork":
        self.epoch += mode  # an epoch begins with train() and ends with eval()
        return super().train(mode)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        accuracy, confidence = self.script[int(self.epoch)] if not self.training else (1.0, 1.0)
        right = images[:, 0, 0, 3].ge(120).long()  # the label, by the brightness of the right half
        wrong = torch.arange(len(images)) >= accuracy * len(images)
        logits = confidence * nn.functional.one_hot(right ^ wrong.long(), 2) * self.scale
        return logits.float(), images.flatten(1).float()


def test_it_learns(tmp_path: Path) -> None:
    network, progress = run(tmp_path / "c.pt", epochs=12)
    first = progress.history[0]
    assert [row["epoch"] for row in progress.history] == list(range(1, 13))
    best = progress.history[progress.best_epoch - 1]
    assert best["val/accuracy"] >= 0.95
    assert best["val/loss"] < 0.5 * first["val/loss"]
    numbers = evaluate(network, CrossEntropy(label_smoothing=0.1), halves(20, 2), batch_size=16)
    assert numbers == {name: best[name] for name in ("val/loss", "val/accuracy")}


def test_evaluation_is_the_mean_over_images() -> None:
    network, data = Network(), halves(20, 2)
    numbers = [
        evaluate(network, CrossEntropy(label_smoothing=0.0), data, batch_size=size) for size in (20, 7, 1)
    ]
    logits = network.eval()(data.images)[0]
    loss = -torch.log_softmax(logits, 1)[torch.arange(20), data.labels].mean()
    for row in numbers:
        assert row["val/loss"] == pytest.approx(loss.item(), abs=1e-6)
        assert row["val/accuracy"] == (logits.argmax(1) == data.labels).float().mean().item()


def test_the_learning_rate_of_each_epoch_is_that_of_its_first_step(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c.pt", lr=0.2)
    chosen = settings()
    # 50 images in batches of at most 16: four steps per epoch, one epoch of warm-up.
    expected = [0.2 * lr_factor(4 * epoch, chosen, steps_per_epoch=4) for epoch in range(5)]
    assert [row["lr"] for row in progress.history] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("script", "best"),
    [
        ([(0.5, 1), (0.9, 1), (0.7, 1)], 2),
        ([(0.9, 1), (0.9, 1), (0.9, 1)], 3),  # equal accuracy: the latest, whatever the loss
        ([(0.9, 1), (0.9, 2), (0.5, 0.1)], 2),
        ([(0.9, 1), (0.5, 1), (0.9, 3)], 3),
        ([(1.0, 2), (0.9, 1), (0.9, 0.1)], 1),
        ([(0.5, 1), (0.6, 1), (0.7, 1)], 3),
    ],
)
def test_the_best_epoch(tmp_path: Path, script: list[tuple[float, float]], best: int) -> None:
    network, progress = run(
        tmp_path / "c.pt", network=ScriptedNetwork(script), epochs=3, lr=1e-9, batch_size=20
    )
    assert [row["val/accuracy"] for row in progress.history] == [accuracy for accuracy, _ in script]
    assert progress.best_epoch == best
    assert int(progress.best_state["epoch"]) == int(network.epoch) == best - 1


def test_the_best_state_does_not_follow_the_weights() -> None:
    network, progress = Network(), Progress()
    progress.add({"val/accuracy": 0.5, "val/loss": 1.0}, network)
    before = {name: tensor.clone() for name, tensor in progress.best_state.items()}
    with torch.no_grad():
        network.head.weight.add_(1)
    progress.add({"val/accuracy": 0.4, "val/loss": 0.1}, network)
    assert progress.best_epoch == 1
    assert all(torch.equal(progress.best_state[name], before[name]) for name in before)


def same(mine: nn.Module, theirs: nn.Module) -> bool:
    states = mine.state_dict(), theirs.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("killed_after", [1, 2, 4])
def test_a_run_killed_after_an_epoch_ends_the_same(tmp_path: Path, killed_after: int, optimizer: str) -> None:
    def kill(row: dict[str, float], _rate: float) -> None:
        if row["epoch"] == killed_after:
            raise KilledError

    seen: list[float] = []
    network, progress = run(tmp_path / "whole.pt", optimizer=optimizer)
    with pytest.raises(KilledError):
        run(tmp_path / "killed.pt", on_epoch=kill, optimizer=optimizer)
    torch.manual_seed(12345)
    other = Network()
    with torch.no_grad():
        other.head.weight.fill_(9)
    resumed, resumed_progress = run(
        tmp_path / "killed.pt",
        network=other,
        on_epoch=lambda row, _: seen.append(row["epoch"]),
        optimizer=optimizer,
    )
    assert seen == list(range(killed_after + 1, 6))
    assert resumed_progress.history == progress.history
    assert resumed_progress.best_epoch == progress.best_epoch
    assert same(resumed, network)


@pytest.mark.parametrize("last", [1, 2, 5])
def test_short_epochs_are_kept_now_and_then_and_told_of_once_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    path = tmp_path / "c.pt"
    seen: list[tuple[float, int]] = []

    def note(row: dict[str, float], _rate: float) -> None:
        kept = torch.load(path, weights_only=True)
        seen.append((row["epoch"], len(kept["history"])))

    monkeypatch.setattr(keeping, "SHORTEST_S", 3600.0)
    network, _ = run(path, epochs=last, on_epoch=note)
    assert seen == [(1, 1), *((epoch, last) for epoch in range(2, last + 1))]
    assert same(run(path, epochs=last, loss=KillingLoss(0))[0], network)


@pytest.mark.parametrize("calls", [0, 3, 5, 7, 13, 27])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_the_same(tmp_path: Path, calls: int) -> None:
    network, progress = run(tmp_path / "whole.pt")
    with pytest.raises(KilledError):
        run(tmp_path / "killed.pt", loss=KillingLoss(calls))
    resumed, resumed_progress = run(tmp_path / "killed.pt")
    assert resumed_progress.history == progress.history
    assert same(resumed, network)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.8},
        {"accumulate_batches": 3, "grad_clip_norm": 0.1},
        {"optimizer": "adam", "schedule": "one_cycle"},
        {"schedule": "step", "step_epochs": (1, 3)},
        {"channels_last": True},
        {"patience": 1, "lr": 1e-6},
    ],
)
def test_every_setting_survives_a_kill(tmp_path: Path, changes: dict[str, object]) -> None:
    def kill(row: dict[str, float], _rate: float) -> None:
        if row["epoch"] == 2:
            raise KilledError

    network, progress = run(tmp_path / "whole.pt", **changes)
    with pytest.raises(KilledError):
        run(tmp_path / "killed.pt", on_epoch=kill, **changes)
    resumed, resumed_progress = run(tmp_path / "killed.pt", **changes)
    assert resumed_progress.history == progress.history
    assert same(resumed, network)


class Plain(nn.Module):
    """One linear layer: without norms, only the sum of gradients matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(16, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = images.flatten(1).float() / 255
        return self.head(features), features


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


@pytest.mark.parametrize(("patience", "ends"), [(0, 6), (1, 3), (2, 6), (3, 6)])
def test_patience(tmp_path: Path, patience: int, ends: int) -> None:
    script = [(0.5, 1), (0.9, 1), (0.7, 1), (0.95, 1), (0.6, 1), (0.6, 1)]
    _, progress = run(
        tmp_path / "c.pt",
        network=ScriptedNetwork(script),
        epochs=6,
        lr=1e-9,
        batch_size=20,
        patience=patience,
    )
    assert len(progress.history) == ends
    assert progress.best_epoch == (2 if ends == 3 else 4)


def test_equal_epochs_use_up_patience(tmp_path: Path) -> None:
    network = ScriptedNetwork([(0.5, 1), (0.9, 1), (0.9, 2), (0.9, 3), (0.9, 4)])
    _, progress = run(tmp_path / "c.pt", network=network, lr=1e-9, patience=2)
    assert len(progress.history) == 4


def test_no_epoch_starts_after_the_time_is_up(tmp_path: Path) -> None:
    _, progress = run(tmp_path / "c.pt", max_time_s=1e-9)
    assert len(progress.history) == 1
    assert progress.elapsed_s > 0
    _, resumed = run(tmp_path / "c.pt", max_time_s=progress.elapsed_s * 1.000001)
    assert len(resumed.history) == 2  # what was spent before an interruption counts
    assert resumed.elapsed_s > progress.elapsed_s
    _, unlimited = run(tmp_path / "d.pt", max_time_s=1000.0)
    assert len(unlimited.history) == 5


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


def test_the_parameters_of_a_loss_are_trained_and_resumed(tmp_path: Path) -> None:
    def kill(row: dict[str, float], _rate: float) -> None:
        if row["epoch"] == 2:
            raise KilledError

    def center() -> Center:
        return Center(num_classes=2, num_features=8, weight=0.5, label_smoothing=0.0)

    whole, killed, resumed = center(), center(), center()
    network, progress = run(tmp_path / "whole.pt", loss=whole)
    assert bool(whole.centers.all())
    with pytest.raises(KilledError):
        run(tmp_path / "killed.pt", loss=killed, on_epoch=kill)
    again, again_progress = run(tmp_path / "killed.pt", loss=resumed)
    assert again_progress.history == progress.history
    assert same(again, network)
    assert torch.equal(resumed.centers, whole.centers)


def test_background_images_are_learned_from_but_not_counted(tmp_path: Path) -> None:
    data = halves(60, 1)
    labels = data.labels.clone()
    labels[40:] = -2
    network = Network()
    progress = train(
        network,
        OutlierExposure(weight=0.5, label_smoothing=0.0),
        train_data=TensorImages(data.images // torch.where(labels == -2, 9, 1).view(-1, 1, 1, 1), labels),
        val_data=halves(20, 2),
        settings=settings(epochs=12),
        checkpoint=tmp_path / "c.pt",
        on_epoch=lambda _row, _rate: None,
    )
    assert progress.history[progress.best_epoch - 1]["val/accuracy"] >= 0.9
    assert 0.8 <= max(row["train/accuracy"] for row in progress.history) <= 1
    dark = network((data.images // 9).to(torch.uint8))[0].softmax(1).amax(1)
    assert dark[40:].mean() < network(data.images)[0].softmax(1).amax(1)[:40].mean()


class Biased(nn.Module):
    """Right about the halves, with an extra class that always wins."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        right = images[:, 0, 0, 3].ge(120).long()
        known = nn.functional.one_hot(right, 2).float()
        return torch.cat([known, self.shift.expand(len(images), 1)], dim=1), known


def test_accuracy_is_over_the_known_classes(tmp_path: Path) -> None:
    data, loss = halves(20, 2), CrossEntropy(label_smoothing=0.0)
    assert evaluate(Biased(), loss, data, batch_size=7, num_extra=1)["val/accuracy"] == 1
    assert evaluate(Biased(), loss, data, batch_size=7)["val/accuracy"] == 0
    _, progress = run(tmp_path / "c.pt", network=Biased(), epochs=2, lr=1e-9, num_extra=1, augmentation=STILL)
    assert [row["train/accuracy"] for row in progress.history] == [1, 1]


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    network, progress = run(tmp_path / "c.pt")
    again, again_progress = run(tmp_path / "c.pt", loss=KillingLoss(0))
    assert again_progress.history == progress.history
    assert same(again, network)


def test_the_checkpoint_is_whole_and_alone(tmp_path: Path) -> None:
    run(tmp_path / "deep" / "c.pt", epochs=2)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.pt"]
    torch.load(tmp_path / "deep" / "c.pt", weights_only=True)


def test_seeds(tmp_path: Path) -> None:
    first, same_seed, other = (run(tmp_path / f"{i}.pt", seed=seed)[0] for i, seed in enumerate((0, 0, 1)))
    assert same(first, same_seed)
    assert not same(first, other)


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


def test_half_precision_learns_too(tmp_path: Path) -> None:
    network, progress = run(tmp_path / "c.pt", precision="bf16-mixed", epochs=12)
    assert progress.history[progress.best_epoch - 1]["val/accuracy"] >= 0.95
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


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


def test_a_full_disk_keeps_the_epoch_before(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write fails in its middle."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(_row: dict[str, float], _rate: float) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))

    try:
        with pytest.raises(
            InputError, match=r"could not be kept after epoch 2 in .*make room there; the next"
        ):
            run(tmp_path / "state" / "c.pt", on_epoch=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["c.pt"]
    resumed, progress = run(tmp_path / "state" / "c.pt")
    network, whole = run(tmp_path / "whole.pt")
    assert progress.history == whole.history
    assert same(resumed, network)


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = {f"c.{platform.node()}.{pid}.part" for pid in (gone.pid, os.getpid())} | {"c.elsewhere.1.part"}
    for name in names:
        (tmp_path / name).touch()
    run(tmp_path / "c.pt", epochs=2)
    kept = names - {f"c.{platform.node()}.{gone.pid}.part", f"c.{platform.node()}.{os.getpid()}.part"}
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt"} | kept


def damaged(content: bytes) -> Iterator[bytes]:
    """A kept state after anything can have happened to it (seeded)."""
    generator = np.random.default_rng(0)
    for place in generator.integers(len(content), size=15):
        yield (
            content[:place] + bytes([content[place] ^ 1 << int(generator.integers(8))]) + content[place + 1 :]
        )
    for end in generator.integers(len(content), size=5):
        yield content[:end]
    yield from (b"", b"text", bytes(1000), content + b"x", b"PK" + content)
    for state in ({}, [1], {"history": 3}, {"model": {"odd": torch.ones(2)}}):
        stream = io.BytesIO()
        torch.save(state, stream)
        yield stream.getvalue()


def test_a_damaged_state_is_set_aside_and_training_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network, progress = run(tmp_path / "whole.pt", epochs=2)
    checkpoint, aside = tmp_path / "c.pt", tmp_path / "c.damaged"
    with pytest.raises(KilledError):
        run(checkpoint, loss=KillingLoss(6), epochs=2)
    kept, set_aside = checkpoint.read_bytes(), 0
    for content in damaged(kept):
        checkpoint.write_bytes(content)
        caplog.clear()
        again, again_progress = run(checkpoint, epochs=2)
        assert again_progress.history == progress.history
        assert same(again, network)
        if aside.exists():
            set_aside += 1
            assert aside.read_bytes() == content
            assert "c.pt is damaged" in caplog.text
            assert "it is now c.damaged, and training begins anew." in caplog.text
            aside.unlink()
    assert set_aside > 20  # a bit between the records of the file changes nothing


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


def test_rates_are_reported(tmp_path: Path) -> None:
    rates: list[float] = []
    run(tmp_path / "c.pt", on_epoch=lambda _row, rate: rates.append(rate), epochs=2)
    assert len(rates) == 2
    assert min(rates) > 0


def test_a_weight_that_cannot_be_shared_out_is_named() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    network[1].weight = nn.Parameter(torch.ones(3, 2).T)
    with pytest.raises(InputError, match=r"cannot be shared out: the numbers of its weight 1\.weight"):
        shard(network, None)
