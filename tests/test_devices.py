"""Where a network runs: devices by name, and the threads of the CPU."""

import pytest
import torch
from extracted import CPU

from osr.devices import make_fabric, pick_device, set_cpu_threads
from osr.errors import InputError


def test_devices_by_name() -> None:
    assert pick_device("cpu") == CPU
    expected = (
        "cuda" if torch.cuda.is_available() else ("mps" if torch.backends.mps.is_available() else "cpu")
    )
    assert pick_device("auto").type == expected


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine without a GPU"
)
def test_a_gpu_that_is_not_there() -> None:
    for ask in (pick_device, make_fabric):
        with pytest.raises(
            InputError, match=r"^train.accelerator is 'gpu', but PyTorch finds none .*; auto takes"
        ):
            ask("gpu")


def test_cpu_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_cpu_threads(1)
        assert torch.get_num_threads() == 1
        set_cpu_threads("auto")
        assert torch.get_num_threads() == 1  # auto leaves what is there
    finally:
        torch.set_num_threads(before)
