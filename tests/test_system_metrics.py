"""System metrics: names that MLflow's page of them knows, and values that can be."""

import psutil

from pipeline.tracking.system_metrics import system_metrics


def test_load_and_memory_of_this_machine() -> None:
    system_metrics()
    sum(range(10**6))
    values = system_metrics()
    assert {name.partition("/")[0] for name in values} == {"system"}
    assert 0 <= values["system/cpu_utilization_percentage"] <= 100
    memory = psutil.virtual_memory()
    assert 0 < values["system/process_memory_usage_megabytes"] < memory.total / 1e6
    assert 0 < values["system/system_memory_usage_megabytes"] < memory.total / 1e6
    assert 0 < values["system/system_memory_usage_percentage"] < 100
