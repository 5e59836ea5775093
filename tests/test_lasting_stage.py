"""The real stage `train` in a clone of this project: killed, ended, and shared by two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_pipeline import Clone, clone

pytestmark = pytest.mark.slow

WEIGHTS = "artifacts/model/model.safetensors"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone whose split is made, with enough epochs to be ended between them."""
    made = clone(tmp_path_factory.mktemp("lasting"))
    made.set("train.epochs", 25)
    made.dvc("repro", "prepare-split")
    return made


@pytest.fixture(scope="module")
def uninterrupted(project: Clone) -> bytes:
    project.dvc("repro", "train")
    return (project.root / WEIGHTS).read_bytes()


def end_between_epochs(project: Clone, how: signal.Signals) -> None:
    """Start `dvc repro train --force` and send a signal to the stage once it has kept an epoch."""
    kept = project.root / ".osr" / "checkpoints"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", "train"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(kept.glob("*.pt")):
        assert process.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), how)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode != 0, printed
    assert list(kept.glob("*.pt"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the stage's process in Linux's /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_next_repro_goes_on_and_ends_the_same(
    project: Clone, uninterrupted: bytes, how: signal.Signals
) -> None:
    end_between_epochs(project, how)
    assert (project.root / WEIGHTS).read_bytes() == uninterrupted  # the earlier results stay
    printed = project.dvc("repro", "--force", "--single-item", "train")
    assert "going on with an interrupted training" in printed
    assert (project.root / WEIGHTS).read_bytes() == uninterrupted
    assert not list((project.root / ".osr" / "checkpoints").iterdir())
    *_, killed, row = project.rows()
    assert row.info.status == "FINISHED"
    assert killed.info.status in ("KILLED", "FINISHED")  # the retried stage goes on in its row


def test_two_devices_share_the_stage_and_one_writes(project: Clone) -> None:
    before = len(project.rows())
    for key, value in (("devices", 2), ("accelerator", "cpu"), ("epochs", 6)):
        project.set(f"train.{key}", value)
    printed = project.dvc("repro", "train")
    assert "gloo" in printed
    assert len(project.rows()) == before + 1
    assert project.curve(project.rows()[-1]) == list(range(1, 7))
    metrics = json.loads((project.root / "metrics/train.json").read_text())
    assert metrics["best"]["val_accuracy"] > 0.9
    project.set("train.devices", 1)
    project.dvc("repro", "train")
    alone = json.loads((project.root / "metrics/train.json").read_text())
    # Batch norm sees half a batch in each process, and dropout draws anew: near, not the same.
    assert alone["best"]["val_accuracy"] == pytest.approx(metrics["best"]["val_accuracy"], abs=0.05)
