"""Ends stages at random moments and looks at what is left.

`python killed_stages.py FOLDER SEED COUNT HOW STAGE...`. The stages are those of `run_stage`, with bodies
that write a generation into every output; each runs in a process forked from here.
Prints what was found as one line of JSON.
"""

import collections
import contextlib
import errno
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from osr.params import load_params
from pipeline import entry
from pipeline.workspace.stages import STAGES
from pipeline.workspace.swap import ASIDE, finish_swaps, new

ROOT = Path(__file__).parents[1]
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
FULL, MIDDLE = "a full disk", "in the middle of the swap"


def write(name, generation):
    """Every output of a stage, each generation with a file that no other has."""
    for out in STAGES[name].results:
        place = new(out)
        files = [place] if out.suffix else [place / "a.txt", place / "deep" / f"{generation}.txt"]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{generation} " * 4000)
            time.sleep(0.001)
    return {"generation": generation}


def found(name):
    """The generations in the outputs of a stage; a missing output is one of its own."""
    seen = set()
    for out in STAGES[name].results:
        files = [file for file in (out, *out.rglob("*")) if file.is_file()]
        seen |= {word for file in files for word in file.read_text().split()} or {"missing"}
        seen |= {file.stem for file in files if file.parent.name == "deep"}
    metrics = STAGES[name].metrics
    return seen | ({str(json.loads(metrics.read_text())["generation"])} if metrics.exists() else {"missing"})


def forked(body):
    """The id of a process that does this and ends; what it exits with is told."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except SystemExit as ended:
            os.write(2, f"{ended}\n".encode())
        finally:
            os._exit(status)
    return pid


def fork(name, generation):
    """The id of a process that runs the stage."""

    def body():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["toy"]
        entry.run_stage(name, lambda _params, _row: write(name, generation), None)

    return forked(body)


def run(name, generation):
    assert os.waitpid(fork(name, generation), 0)[1] == 0
    assert found(name) == {str(generation)}, found(name)
    assert not [*ASIDE.rglob("*.txt")]


@contextlib.contextmanager
def fill(leave):
    """Leave so many bytes of the disk of the working directory free."""
    filler, held = Path("filler"), os.statvfs(".")
    assert held.f_blocks * held.f_frsize < 1 << 30, "a small disk of its own is filled, and no other"
    try:
        with filler.open("wb") as file:
            for _ in range(max(0, int(held.f_bavail * held.f_frsize - leave) // 4096)):
                file.write(bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    yield
    filler.unlink()


def ended(name, generation, how, draws, lasts):
    """Run the stage and end it; whether it could end well all the same."""
    if how == FULL:
        with fill(draws.uniform(0, 0.9) * 8000 * 2 * len(STAGES[name].results)):
            return os.waitpid(fork(name, generation), 0)[1] == 0
    pid = fork(name, generation)
    time.sleep(draws.uniform(0, 1.2 * lasts))
    os.kill(pid, SIGNALS[how])
    return os.waitpid(pid, 0)[1] == 0


def main(folder, seed, count, how, *names):
    params = load_params(ROOT / "params.yaml")
    entry.load_params = lambda _path: params
    entry.check_stamps = entry.write_stamp = lambda *_told: None
    os.chdir(folder)
    draws, seen = random.Random(int(seed)), collections.Counter()
    for name in names:
        run(name, 0)
        began = time.monotonic()
        os.waitpid(fork(name, 0), 0)
        lasts = time.monotonic() - began
        for attempt in range(int(count)):
            generation = attempt + 1
            well = ended(name, generation, how, draws, lasts)
            left = found(name)
            if len(left) > 1:  # SIGKILL between two renames: the next stage that starts moves the rest
                assert how == "SIGKILL", left
                finish_swaps()
                left = found(name)
                seen[MIDDLE] += 1
            assert left in ({str(attempt)}, {str(generation)}), (name, attempt, left)
            seen["new" if left == {str(generation)} else "earlier"] += 1
            assert not well or left == {str(generation)}
            run(name, generation)
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
