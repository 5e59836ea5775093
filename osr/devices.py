"""Where a network runs, in which precision, on how many threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from osr.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CpuThreads = int | Literal["auto"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def make_fabric(accelerator: str, *, precision: Precision = "32-true") -> Fabric:
    """One device of the kind `auto`, `cpu` or `gpu`.

    Raises:
        InputError: this machine has no such device.
    """
    from lightning_fabric import Fabric  # two seconds that a forward pass on the CPU need not wait

    try:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    except RuntimeError as error:
        raise InputError(
            f"train.accelerator is {accelerator!r}, but PyTorch finds none on this machine ({error}); "
            "auto takes what there is."
        ) from error


def pick_device(accelerator: str) -> torch.device:
    """The device that Fabric takes for `auto`, `cpu` or `gpu`.

    Raises:
        InputError: this machine has no such device.
    """
    if accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available()):
        return torch.device("cpu")
    device: torch.device = make_fabric(accelerator).device
    return device


def set_cpu_threads(threads: CpuThreads) -> None:
    """Let PyTorch use so many CPU threads; auto leaves its choice, the cores of the machine.

    Sums are split among threads, so a training on the CPU gives the same bits only with the same number.
    """
    if threads != "auto":
        torch.set_num_threads(threads)
