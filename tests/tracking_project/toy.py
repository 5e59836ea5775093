"""Six stages that compute nothing; a word in knobs/<stage> makes one of them differ or misbehave.

TOY_HANG=<stage> or late-<stage> makes a stage hang as well, for TOY_HANG_S seconds, and leaves its results as
they would have been.
"""

import csv
import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

from osr.params import load_params
from pipeline.tracking.stage_run import stage_run
from pipeline.workspace.stages import STAGES

EPOCHS = 3


def run(name: str) -> None:
    stage, params = STAGES[name], load_params(Path("params.yaml"))
    knob = Path("knobs", name).read_text().strip()
    if knob == "crash":
        sys.exit("the stage cannot start")
    hang = os.environ.get("TOY_HANG", "")
    with stage_run(name, params) as row:
        misbehave("hang" if hang == name else knob)
        number = zlib.crc32(repr((knob, getattr(params, SECTION[name]))).encode()) / 2**32
        history = [{"epoch": epoch, "train/loss": number / (epoch + 1)} for epoch in range(EPOCHS)]
        if stage.history is not None:
            for values in history:
                curves = {"train/loss": values["train/loss"], "system/clock": time.monotonic()}
                row.log_epoch(values["epoch"], curves)
        misbehave("hang" if hang == f"late-{name}" else knob.removeprefix("late-"))
        for path in [*stage.artifacts, *filter(None, [stage.checkpoint])]:
            file = path if path.suffix else path / "one.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"digest": f"{number:.6f}"}))
        if stage.history is not None:
            with stage.history.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["epoch", "train/loss"])
                writer.writeheader()
                writer.writerows(history)
        stage.metrics.parent.mkdir(exist_ok=True)
        stage.metrics.write_text(json.dumps({"number": {name: number}}))


def misbehave(knob: str) -> None:
    if knob == "raise":
        raise RuntimeError("the knob says so")
    if knob == "hang":
        Path("hanging").write_text(str(os.getpid()))
        time.sleep(float(os.environ.get("TOY_HANG_S", "60")))


SECTION = {
    "prepare-split": "split",
    "train": "train",
    "calibrate": "calibrate",
    "fit-openmax": "detectors",
    "evaluate": "evaluate",
    "plot": "plot",
}

if __name__ == "__main__":
    # A shell starts its background jobs, and all they start, with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(sys.argv[1])
