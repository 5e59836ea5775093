"""Two processes train as one does, and a training that is killed at any moment ends as one that is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvc_project import FOREIGN
from safetensors.torch import load_file

from osr.devices import check_launched, num_launched
from osr.errors import InputError

ROOT = Path(__file__).parents[1]
PROGRAM = str(ROOT / "tests" / "training_program.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
TIMEOUT_S = 300


def environment() -> dict[str, str]:
    """That of this process, as far as it steers no launcher."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith((*FOREIGN, "SLURM"))}
    return clean | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *, launcher: tuple[str, ...] = (), **changes: object) -> subprocess.Popen:
    """The program in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *launcher, PROGRAM, str(folder), json.dumps(changes)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder: Path, **changes: object) -> list[dict]:
    """Run the program to its end; what each process noted."""
    process = start(folder, **changes)
    printed, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, printed
    return [json.loads(path.read_text()) for path in sorted(folder.glob("process_*.json"))]


SHARED = {"epochs": 4, "batch_size": 16, "lr": 0.02, "accumulate_batches": 2, "grad_clip_norm": 1.0}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    assert len(finish(folder, **SHARED)) == 1
    return folder


@pytest.mark.ci
@pytest.mark.parametrize(
    "launcher", [(), pytest.param(TORCHRUN, marks=pytest.mark.slow)], ids=["fabric", "torchrun"]
)
def test_two_processes_train_as_one(tmp_path: Path, alone: Path, launcher: tuple[str, ...]) -> None:
    first, second = finish(tmp_path, launcher=launcher, devices=2, strategy="ddp", **SHARED)
    (one,) = (json.loads(path.read_text()) for path in alone.glob("process_*.json"))
    assert [a + b for a, b in zip(first["seen"], second["seen"], strict=True)] == one["seen"]
    assert (first["called"], second["called"]) == ([1, 2, 3, 4], [])
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        *("epoch", "started", "history.json", "weights.safetensors", "process_0.json", "process_1.json")
    }
    assert_trained_alike(tmp_path, alone)


def assert_trained_alike(folder: Path, alone: Path) -> None:
    histories = [json.loads((each / "history.json").read_text()) for each in (folder, alone)]
    for mine, theirs in zip(*histories, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3)
    mine, theirs = (load_file(each / "weights.safetensors") for each in (folder, alone))
    for name, tensor in theirs.items():
        assert (mine[name] - tensor).abs().max() < 1e-3 * tensor.abs().max(), name


@pytest.mark.slow  # four processes
def test_shared_weights_train_as_whole_ones_and_go_on_after_a_death(tmp_path: Path, alone: Path) -> None:
    """With weights in units of their own and in the rest; the loss has parameters, too."""
    shared = {"devices": 2, "strategy": "fsdp", "unit": 50, **SHARED}
    process = start(tmp_path, dies_in=2, **shared)
    printed, _ = process.communicate(timeout=TIMEOUT_S)
    assert "InputError: Another process of this training ended; its own message stands above." in printed
    assert (tmp_path / "state" / "c.pt").is_file()
    first, second = finish(tmp_path, **shared)
    assert (first["called"], second["called"]) == ([3, 4], [])
    assert_trained_alike(tmp_path, alone)


@pytest.mark.slow  # four processes
def test_shared_weights_have_the_average_of_whole_ones(tmp_path: Path) -> None:
    changes = {**SHARED, "epochs": 2, "ema_decay": 0.9, "precision": "bf16-mixed", "devices": 2}
    finish(tmp_path / "whole", strategy="ddp", **changes)
    finish(tmp_path / "shared", strategy="fsdp", **changes)
    assert_trained_alike(tmp_path / "shared", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_mix_and_turn_as_one(tmp_path: Path) -> None:
    """RegMixup, PixMix and RotPred: each process takes its share of own and of mixed images."""
    for name, several in (("alone", {}), ("together", {"devices": 2, "strategy": "ddp"})):
        finish(tmp_path / name, beside=True, **several, **SHARED)
    mine, theirs = (load_file(tmp_path / name / "weights.safetensors") for name in ("together", "alone"))
    assert "turns.weight" in mine
    for name, tensor in theirs.items():
        assert (mine[name] - tensor).abs().max() < 1e-3 * tensor.abs().max(), name


@pytest.mark.ci
def test_a_process_that_dies_ends_the_training(tmp_path: Path) -> None:
    """The first process says so, and its state stays."""
    process = start(tmp_path, devices=2, strategy="ddp", dies_in=2, **SHARED)
    printed, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "InputError: Another process of this training ended; its own message stands above." in printed
    assert (tmp_path / "state" / "c.pt").is_file()
    assert (tmp_path / "epoch").read_text() == "2"


@pytest.mark.parametrize(
    ("devices", "num_nodes", "told"),
    [(1, 1, "1 times 1"), (3, 2, "3 times 2"), ("auto", 1, "auto (1 here) times 1")],
)
def test_settings_that_differ_from_torchrun_are_refused(
    devices: int | str, num_nodes: int, told: str
) -> None:
    with pytest.raises(InputError, match="torchrun started 2 processes, but must start") as caught:
        check_launched(2, accelerator="cpu", devices=devices, num_nodes=num_nodes)
    assert f"train.devices times train.num_nodes, {told}: change" in str(caught.value)


@pytest.mark.parametrize(("launched", "devices", "num_nodes"), [(2, 2, 1), (8, 4, 2), (1, "auto", 1)])
def test_settings_that_fit_torchrun_pass(launched: int, devices: int | str, num_nodes: int) -> None:
    check_launched(launched, accelerator="cpu", devices=devices, num_nodes=num_nodes)


def test_without_torchrun_nothing_was_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other launchers set this variable, too."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert num_launched() is None


@pytest.mark.slow  # what it says is tested above, without processes
def test_the_stage_refuses_another_number_of_processes_before_it_writes(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "pipeline.train"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode != 0
    assert "ERROR: torchrun started 2 processes, but must start train.devices times" in done.stdout
    assert "InputError" not in done.stdout, "the only traceback is torchrun's own"
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


LASTING = {"epochs": 40, "batch_size": 16, "lr": 0.02, "ema_decay": 0.9, "with_state": True}


def kill_once(folder: Path, seconds: float) -> None:
    """SIGKILL the training so long after it began; sooner when it came to its end before that."""
    process = start(folder, **LASTING)
    while not (folder / "started").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    if (folder / "weights.safetensors").exists():
        shutil.rmtree(folder)
        return kill_once(folder, seconds / 2)
    assert process.returncode == -signal.SIGKILL
    return None


def assert_kills_change_nothing(root: Path, kills: int) -> None:
    finish(root / "whole", **LASTING)
    files = [root / "whole" / name for name in ("started", "history.json")]
    duration = files[1].stat().st_mtime - files[0].stat().st_mtime
    draw = random.Random(0)
    for number in range(kills):
        folder = root / str(number)
        kill_once(folder, draw.uniform(0.05, 0.9) * duration)
        finish(folder, **LASTING)
        for name in ("weights.safetensors", "history.json"):
            assert (folder / name).read_bytes() == (root / "whole" / name).read_bytes()
        assert [path.name for path in (folder / "state").iterdir()] == ["c.pt"]


@pytest.mark.ci
def test_a_killed_training_ends_the_same(tmp_path: Path) -> None:
    assert_kills_change_nothing(tmp_path, 1)


@pytest.mark.slow
def test_ten_killed_trainings_end_the_same(tmp_path: Path) -> None:
    assert_kills_change_nothing(tmp_path, 10)
