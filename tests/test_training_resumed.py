"""A training killed at any point ends the same; its kept state is whole, or set aside."""

import io
import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from small_trainings import (
    KilledError,
    KillingLoss,
    Network,
    _each_epoch_is_kept,  # noqa: F401 (fixture)
    run,
    same,
)

from osr.errors import InputError
from osr.losses.center import Center
from osr.training import keeping


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


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    network, progress = run(tmp_path / "c.pt")
    again, again_progress = run(tmp_path / "c.pt", loss=KillingLoss(0))
    assert again_progress.history == progress.history
    assert same(again, network)


def test_the_checkpoint_is_whole_and_alone(tmp_path: Path) -> None:
    run(tmp_path / "deep" / "c.pt", epochs=2)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.pt"]
    torch.load(tmp_path / "deep" / "c.pt", weights_only=True)


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
