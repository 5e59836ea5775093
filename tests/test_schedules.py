"""Learning rates, by hand and against torch's own schedules."""

import math
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LRScheduler, MultiStepLR, OneCycleLR

from osr.params import load_params
from osr.training.schedules import lr_factor
from osr.training.settings import TrainSettings

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train


def factors(num_steps: int, *, steps_per_epoch: int = 1, **changes: object) -> list[float]:
    chosen: TrainSettings = TRAIN.model_copy(update=changes)
    return [lr_factor(step, chosen, steps_per_epoch=steps_per_epoch) for step in range(num_steps)]


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(()))], lr=1.0)


def rates(schedule: LRScheduler, num_steps: int) -> list[float]:
    seen = []
    for _ in range(num_steps):
        seen.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return seen


def test_the_learning_rate_by_hand() -> None:
    half = math.sqrt(0.5)
    assert factors(8, warmup_epochs=3, epochs=7) == pytest.approx(
        [0.25, 0.5, 0.75, 1.0, 0.5 * (1 + half), 0.5, 0.5 * (1 - half), 0.0], abs=1e-12
    )


def test_without_warm_up_the_first_step_is_full() -> None:
    assert factors(3, warmup_epochs=0, epochs=2) == pytest.approx([1, 0.5, 0])


def test_warm_up_rises_then_cosine_falls() -> None:
    rising = factors(101, warmup_epochs=20, epochs=100)
    assert rising[:21] == sorted(rising[:21])
    assert rising[20:] == sorted(rising[20:], reverse=True)
    assert rising[0] == 1 / 21
    assert max(rising) == rising[20] == 1


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_cosine_restarts_are_those_of_torch(restarts: int) -> None:
    theirs = rates(CosineAnnealingWarmRestarts(optimizer(), T_0=24 // (restarts + 1)), 24)
    mine = factors(24, warmup_epochs=0, epochs=6, steps_per_epoch=4, cosine_restarts=restarts)
    assert mine == pytest.approx(theirs, abs=1e-12)


def test_steps_are_those_of_torch_and_counted_from_the_start() -> None:
    chosen = {"schedule": "step", "epochs": 9, "step_epochs": (3, 5), "step_factor": 0.2}
    theirs = rates(MultiStepLR(optimizer(), milestones=[6, 10], gamma=0.2), 18)
    assert factors(18, steps_per_epoch=2, warmup_epochs=0, **chosen) == pytest.approx(theirs)
    warmed = factors(18, steps_per_epoch=2, warmup_epochs=1, **chosen)
    assert warmed[:2] == pytest.approx([1 / 3, 2 / 3])
    assert warmed[2:] == pytest.approx(theirs[2:])


@pytest.mark.parametrize("warmup", [1, 3])
def test_one_cycle_is_that_of_torch(warmup: int) -> None:
    theirs = OneCycleLR(optimizer(), max_lr=1.0, total_steps=40, pct_start=warmup / 10, cycle_momentum=False)
    mine = factors(40, steps_per_epoch=4, epochs=10, warmup_epochs=warmup, schedule="one_cycle")
    assert mine == pytest.approx([*rates(theirs, 39), mine[-1]], abs=1e-9)
    assert mine[-1] == pytest.approx(1 / 25 / 1e4)


def test_one_cycle_of_one_step_per_epoch() -> None:
    mine = factors(4, epochs=3, warmup_epochs=1, schedule="one_cycle")
    assert mine == pytest.approx([1.0, (1 + 4e-6) / 2, 4e-6, 4e-6])


def test_constant_stays_after_the_warm_up() -> None:
    assert factors(5, epochs=5, warmup_epochs=1, schedule="constant") == [0.5, 1.0, 1.0, 1.0, 1.0]
