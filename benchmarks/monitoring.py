"""False alarms of `osr monitor` over 100,000 known images, and how soon it finds unknown ones, early or late.

    python -m benchmarks.monitoring

Scores of known images are standard normal, those of unknown ones normal with the same deviation, so many
deviations higher. Validation scores are drawn anew for each stream.
"""

from __future__ import annotations

import numpy as np

from osr.metrics.monitoring import Monitor
from osr.metrics.thresholds import conformal_p_values

CALIBRATION = (100, 300, 1000, 5000)
SHIFTS = (2.0, 3.0, 4.0, 5.0)
BEFORE = (1000, 10_000, 100_000)  # known images, until the first of the last table's unknown ones
LATE_SHIFT = 4.0
STREAMS, IMAGES, FOUND_WITHIN, CONTAMINATION = 300, 100_000, 5000, 0.05


def first_alarm(
    rng: np.random.Generator, num_calibration: int, images: int, shift: float, share: float
) -> float:
    """Number of the image at which the alarm goes off; infinity where it does not."""
    monitor, scores = Monitor(num_calibration), rng.normal(size=num_calibration)
    for start in range(0, images, 5000):
        count = min(5000, images - start)
        stream = rng.normal(size=count) + shift * (rng.random(count) < share)
        monitor.update(conformal_p_values(scores, stream))
        if monitor.alarm is not None:
            return monitor.alarm
    return np.inf


def late_alarm(rng: np.random.Generator, num_calibration: int, before: int) -> float:
    """The same, counted from the first image that may be unknown, behind so many known ones."""
    while True:
        monitor, scores = Monitor(num_calibration), rng.normal(size=num_calibration)
        monitor.update(conformal_p_values(scores, rng.normal(size=before)))
        if monitor.alarm is None:  # a false one is another table's
            break
    unknown = rng.random(FOUND_WITHIN) < CONTAMINATION
    monitor.update(conformal_p_values(scores, rng.normal(size=FOUND_WITHIN) + LATE_SHIFT * unknown))
    return np.inf if monitor.alarm is None else monitor.alarm - before


def cell(found: list[float]) -> str:
    """The median, and what nine in ten are not above."""
    median, late = np.median(found), np.quantile(found, 0.9, method="higher")
    return " / ".join(f"{value:,.0f}" if value < np.inf else "-" for value in (median, late))


def main() -> None:
    """Print the three tables in Markdown."""
    rng = np.random.default_rng(0)
    print(
        f"| validation images | false alarms of {STREAMS:,} streams of {IMAGES:,} known images |\n|---|---|"
    )
    for number in CALIBRATION:
        alarms = sum(first_alarm(rng, number, IMAGES, 0.0, 0.0) < np.inf for _ in range(STREAMS))
        print(f"| {number:,} | {alarms} |", flush=True)
    heads = " | ".join(f"{shift:g} deviations" for shift in SHIFTS)
    print(f"\n| validation images | {heads} |\n|---|{'---|' * len(SHIFTS)}")
    for number in CALIBRATION:
        cells = [
            cell([first_alarm(rng, number, FOUND_WITHIN, shift, CONTAMINATION) for _ in range(200)])
            for shift in SHIFTS
        ]
        print(f"| {number:,} | {' | '.join(cells)} |", flush=True)
    heads = " | ".join(f"after {before:,} known images" for before in BEFORE)
    print(f"\n| validation images | {heads} |\n|---|{'---|' * len(BEFORE)}")
    for number in CALIBRATION:
        cells = [cell([late_alarm(rng, number, before) for _ in range(200)]) for before in BEFORE]
        print(f"| {number:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
