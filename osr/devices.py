"""Where a network runs, and in which precision."""

from __future__ import annotations

from typing import Literal

from lightning_fabric import Fabric

from osr.errors import InputError

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def make_fabric(accelerator: str, *, precision: Precision = "32-true") -> Fabric:
    """One device of the kind `auto`, `cpu` or `gpu`.

    Raises:
        InputError: this machine has no such device.
    """
    try:
        return Fabric(accelerator=accelerator, devices=1, precision=precision)
    except RuntimeError as error:
        raise InputError(
            f"train.accelerator is {accelerator!r}, but PyTorch finds none on this machine ({error}); "
            "auto takes what there is."
        ) from error
