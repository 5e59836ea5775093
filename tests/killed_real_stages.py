"""Ends a real stage at random moments in a finished project and looks at what is left.

`python killed_real_stages.py PROJECT LOG COUNT STAGE` ends it `COUNT` times in each way, in processes forked
from here, where its modules are loaded; what is left is what the next one finds. The first meets
`python -m pipeline.STAGE` while it loads modules, the last `dvc repro`. Each starts with the setting that
changes what is there. Then `osr run` must end with the results that the project had.
Prints what was found as one line of JSON.
"""

import collections
import hashlib
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from killed_stages import FULL, MIDDLE, SIGNALS, fill, forked
from ruamel.yaml import YAML

from pipeline.workspace.stages import PARAMS, STAGES
from pipeline.workspace.swap import finish_swaps

MODULES = {name: f"pipeline.{name.replace('-', '_')}" for name in STAGES}
CHANGES = {
    "prepare-split": ("split", "seed", 1),
    "train": ("train", "seed", 1),
    "calibrate": ("calibrate", "folds", 4),
    "fit-openmax": ("detectors", "target_acceptance", 0.9),
    "evaluate": ("evaluate", "seed", 1),
    "plot": ("plot", "dpi", 41),
}
# What bodies load late, at a price of seconds for each fork; without torch, with which plot would not fork.
LATE = dict.fromkeys(STAGES, ("sklearn.datasets",)) | {"plot": ("sklearn.manifold", "matplotlib.pyplot")}
Tree = dict[str, str]


def tree() -> Tree:
    """The digest of every result file of every stage."""
    return {
        file.as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for folder in ("artifacts", "figures", "metrics")
        for file in Path(folder).rglob("*")
        if file.is_file()
    }


class RealStage:
    """A stage of the finished project in the working directory, which changes between two settings.

    Args:
        name: of the stage, as in dvc.yaml.
        log: what its processes say.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name, self.log = name, log
        first = PARAMS.read_text()
        section, key, value = CHANGES[name]
        content = YAML().load(first)
        content[section][key] = value
        YAML().dump(content, PARAMS)
        self.params = (first, PARAMS.read_text())
        finished = tree()
        self.complete(1)
        self.trees = (finished, tree())
        began = time.monotonic()
        self.complete(0)
        self.lasts_s = time.monotonic() - began
        assert tree() == finished != self.trees[1]
        files = [file for out in STAGES[name].outs for file in (out, *out.rglob("*")) if file.is_file()]
        self.num_bytes = sum(file.stat().st_size for file in files)

    def fork(self, which: int) -> int:
        """The id of a process that runs the stage under one of its two settings."""
        PARAMS.write_text(self.params[which])
        return forked(self._run)

    def _run(self) -> None:
        os.setpgid(0, 0)
        with self.log.open("ab") as log:
            for number in (1, 2):
                os.dup2(log.fileno(), number)
        sys.argv = [self.name]
        runpy.run_module(MODULES[self.name], run_name="__main__")

    def start(self, which: int, *command: str) -> int:
        """The same for a command, in a group of processes of its own."""
        PARAMS.write_text(self.params[which])
        with self.log.with_suffix(".commands").open("ab") as log:
            options = {"stdout": log, "stderr": log, "start_new_session": True}
            return subprocess.Popen([sys.executable, "-m", *command], **options).pid

    def complete(self, which: int) -> None:
        """Run the stage undisturbed."""
        assert os.waitpid(self.fork(which), 0)[1] == 0, self.log


def end(start: Callable[[], int], how: str, after_s: float, leave: float) -> bool:
    """Start something and end it and all its group; whether it could end well all the same."""
    if how == FULL:
        with fill(leave):
            return os.waitpid(start(), 0)[1] == 0
    pid = start()
    time.sleep(after_s)
    os.killpg(pid, SIGNALS[how])
    return os.waitpid(pid, 0)[1] == 0


def end_often(stage: RealStage, how: str, count: int, loads_s: float) -> dict[str, int]:
    """How often the earlier results, the new ones, or the middle of a swap were found."""
    draws, seen, now = random.Random(f"{stage.name} {how}"), collections.Counter(), 0
    for attempt in range(count):
        target = 1 - now
        start, lasts_s = partial(stage.fork, target), stage.lasts_s
        if attempt == 0:
            start, lasts_s = partial(stage.start, target, MODULES[stage.name]), loads_s
        elif attempt == count - 1:
            start = partial(stage.start, target, "dvc", "repro", stage.name)
            lasts_s = 2 * loads_s + stage.lasts_s
        well = end(start, how, draws.uniform(0, 1.3 * lasts_s), draws.uniform(0, 0.9) * stage.num_bytes)
        left = tree()
        if left not in stage.trees:  # SIGKILL between two renames: the next stage moves the rest
            assert how == "SIGKILL", (stage.name, attempt)
            finish_swaps()
            left = tree()
            seen[MIDDLE] += 1
        assert left in stage.trees, (stage.name, how, attempt)
        assert not well or left == stage.trees[target]
        seen["new" if left == stage.trees[target] else "earlier"] += 1
        now = stage.trees.index(left)
    return seen


def main(project: str, log: str, count: str, name: str) -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # also where a shell started this in the background
    began = time.monotonic()
    import_module(MODULES[name])
    for module in LATE[name]:
        import_module(module)
    loads_s = time.monotonic() - began
    os.chdir(project)
    os.environ["OSR_TRACKING"] = "off"
    stage, found = RealStage(name, Path(log)), {}
    for how in (*SIGNALS, FULL):
        found[how] = end_often(stage, how, int(count), loads_s)
        sys.stderr.write(f"{name}: {how}: {dict(found[how])}\n")
        assert os.waitpid(stage.start(0, "pipeline.cli", "run"), 0)[1] == 0, (name, how)
        assert tree() == stage.trees[0], (name, how)
    assert "Traceback" not in Path(log).read_text(), log
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
