"""What a training asks of its machine, by the names of MLflow's own system metrics."""

from __future__ import annotations

import psutil
import torch

_MEGABYTE = 1e6


def system_metrics() -> dict[str, float]:
    """Load of this machine since the last call, memory in use now, and of each GPU of this process.

    MLflow's own monitor samples from a thread into a store that is one for the process; once an epoch, in the
    call that sends the curves, costs nothing and never writes beside it.
    """
    memory = psutil.virtual_memory()
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / _MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / _MEGABYTE,
    }
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        values[f"gpu_{index}_memory_usage_megabytes"] = (total - free) / _MEGABYTE
        values[f"gpu_{index}_memory_usage_percentage"] = 100 * (1 - free / total)
    return {f"system/{name}": value for name, value in values.items()}
