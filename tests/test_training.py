"""Training: it learns, keeps the best epoch, stops in time, and counts known images alone."""

from pathlib import Path

import pytest
import torch
from small_trainings import (
    STILL,
    Network,
    _each_epoch_is_kept,  # noqa: F401 (fixture)
    halves,
    run,
    same,
    settings,
)
from torch import Tensor, nn

from osr.data.batches import TensorImages
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.outlier_exposure import OutlierExposure
from osr.training.loop import Progress, evaluate, train
from osr.training.schedules import lr_factor


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


def test_seeds(tmp_path: Path) -> None:
    first, same_seed, other = (run(tmp_path / f"{i}.pt", seed=seed)[0] for i, seed in enumerate((0, 0, 1)))
    assert same(first, same_seed)
    assert not same(first, other)


def test_rates_are_reported(tmp_path: Path) -> None:
    rates: list[float] = []
    run(tmp_path / "c.pt", on_epoch=lambda _row, rate: rates.append(rate), epochs=2)
    assert len(rates) == 2
    assert min(rates) > 0
