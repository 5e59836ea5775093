"""Learning rates over the steps of a training, as factors on `train.lr`."""

from __future__ import annotations

import math

from osr.training.settings import TrainSettings

# Where one_cycle starts and where it ends, as in torch's OneCycleLR.
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def lr_factor(step: int, settings: TrainSettings, *, steps_per_epoch: int) -> float:
    """The factor in 0..1 on the learning rate at an optimiser step counted from 0.

    `cosine`, `step` and `constant` begin with a linear warm-up over `warmup_epochs`; `one_cycle` rises over
    them by half a cosine. `step` counts its epochs from the start of the training, warm-up included.
    """
    warmup, total = settings.warmup_epochs * steps_per_epoch, settings.epochs * steps_per_epoch
    if settings.schedule == "one_cycle":
        return one_cycle(step, rise=warmup, total=total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    match settings.schedule:
        case "cosine":
            return cosine(step - warmup, total=total - warmup, cycles=settings.cosine_restarts + 1)
        case "step":
            passed = sum(step >= epoch * steps_per_epoch for epoch in settings.step_epochs)
            return settings.step_factor**passed
        case "constant":
            return 1.0


def cosine(step: int, *, total: int, cycles: int) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017), `cycles` times in `total` steps."""
    if step >= total:
        return 0.0
    return 0.5 * (1 + math.cos(math.pi * (step * cycles % total) / total))


def one_cycle(step: int, *, rise: int, total: int) -> float:
    """Half a cosine up in `rise` steps, another down in the rest (Smith and Topin 2018), as torch's."""
    top = rise - 1
    if step < top:
        start, end, share = ONE_CYCLE_START, 1.0, step / top
    else:
        start, end, share = 1.0, ONE_CYCLE_END, min(1.0, (step - top) / (total - 1 - top))
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
