"""Where a network runs, in which precision, on how many threads and processes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from threadpoolctl import threadpool_limits

from osr.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

CpuThreads = int | Literal["auto"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

_PATIENCE_S = 5.0  # for a process that closed its connections to end
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")  # PyTorch's CPU allocator has no error type


def num_launched() -> int | None:
    """How many processes torchrun started, on all machines; None where this one was started otherwise."""
    launched = torch.distributed.is_available() and torch.distributed.is_torchelastic_launched()
    return int(os.environ["WORLD_SIZE"]) if launched else None


def check_launched(
    launched: int, *, accelerator: str, devices: int | Literal["auto"], num_nodes: int
) -> None:
    """Compare the settings with what torchrun started: Fabric ignores torchrun where they ask for one device.

    Args:
        launched: processes on all machines.
        accelerator: auto, cpu or gpu.
        devices: on each machine; auto is one per GPU, or one on CPUs.
        num_nodes: machines.

    Raises:
        InputError: the numbers differ.
    """
    here = num_processes(accelerator, devices)
    if launched != here * num_nodes:
        told = f"auto ({here} here)" if devices == "auto" else here
        raise InputError(
            f"torchrun started {launched} processes, but must start train.devices times train.num_nodes, "
            f"{told} times {num_nodes}: change these in params.yaml, or its --nproc-per-node and --nnodes."
        )


def make_fabric(
    accelerator: str,
    *,
    precision: Precision = "32-true",
    devices: int | Literal["auto"] = 1,
    num_nodes: int = 1,
    strategy: str | Strategy = "auto",
) -> Fabric:
    """Devices of the kind `auto`, `cpu` or `gpu`.

    Raises:
        InputError: this machine has no such devices, or the launcher started another number of processes.
    """
    from lightning_fabric import Fabric  # two seconds that a forward pass on the CPU need not wait

    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy,
            precision=precision,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"train.accelerator is {accelerator!r}, but PyTorch finds none on this machine, or fewer than "
            f"train.devices, {devices} ({error}); auto takes what there is."
        ) from error


@contextmanager
def processes_of(fabric: Fabric) -> Iterator[None]:
    """Start the other processes of a training, and end them when this one fails.

    Each runs this program's command line from its start and arrives here, too. torchrun and Slurm have
    started them already.

    Raises:
        InputError: another process ended, or the launcher started another number of them.
    """
    threads = torch.get_num_threads()
    try:
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"train.devices and train.num_nodes do not fit what was launched ({error})."
        ) from error
    torch.set_num_threads(threads)  # Fabric shares the cores out, which would change the last bits
    started: list[subprocess.Popen[bytes]] = getattr(fabric.strategy.launcher, "procs", [])
    try:
        yield
    except BaseException as error:
        ended = isinstance(error, RuntimeError) and any(map(_ended, started))
        for process in started:
            process.kill()
        started.clear()  # Fabric's observer kills this process, too, when it finds one that failed
        if ended:
            raise InputError(
                "Another process of this training ended; its own message stands above."
            ) from error
        raise


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(_PATIENCE_S) != 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn running out of memory into one sentence.

    Args:
        advice: which setting to change, and to what.

    Raises:
        InputError: memory ran out, of a GPU or of this machine.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = any(text in str(error) for text in _OUT_OF_MEMORY)
        if told or isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise InputError(f"Out of memory: {advice}.") from error
        raise


@contextmanager
def compile_advice(*, is_compiled: bool) -> Iterator[None]:
    """Turn a network that cannot be compiled into one sentence.

    Raises:
        InputError: `torch.compile` failed at the first batch.
    """
    if not is_compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # a second that others need not wait

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split()[:20])
        raise InputError(
            f"train.compile is true, but PyTorch cannot compile this network here ({reason}); use false."
        ) from error


def pick_device(accelerator: str) -> torch.device:
    """The device that Fabric takes for `auto`, `cpu` or `gpu`.

    Raises:
        InputError: this machine has no such device.
    """
    if _is_cpu(accelerator):
        return torch.device("cpu")
    device: torch.device = make_fabric(accelerator).device
    return device


def _is_cpu(accelerator: str) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def num_processes(accelerator: str, devices: int | Literal["auto"], num_nodes: int = 1) -> int:
    """How many share a training on machines like this one; `auto` is one per GPU, or one on CPUs."""
    if devices != "auto":
        return devices * num_nodes
    return num_nodes * (1 if _is_cpu(accelerator) else torch.accelerator.device_count())


@contextmanager
def limited_threads(threads: CpuThreads) -> Iterator[None]:
    """Let NumPy's and scikit-learn's linear algebra use so many threads, too; auto leaves their choice."""
    with threadpool_limits(limits=None if threads == "auto" else threads):
        yield


def set_cpu_threads(threads: CpuThreads) -> None:
    """Let PyTorch use so many CPU threads; auto leaves its choice, the cores of the machine.

    Sums are split among threads, so a training on the CPU gives the same bits only with the same number.
    """
    if threads != "auto":
        torch.set_num_threads(threads)
