"""Whatever ends a stage, at whatever moment, leaves its earlier results or the new ones whole."""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import psutil
import pytest
from killed_stages import FULL, MIDDLE, ROOT, SIGNALS
from pages import write_section
from test_pipeline import clone

from pipeline.workspace import swap
from pipeline.workspace.stages import FIGURES, STAGES
from pipeline.workspace.swap import ASIDE, afterwards, finish_swaps, new, written_aside

SMALL = {
    "detectors.enabled": ["maxlogit", "mav", "openmax"],
    "plot.tsne_images": 50,
    "plot.tsne_perplexity": 5.0,
    "plot.umap": False,
    "plot.dpi": 40,
    "plot.gallery_images": 2,
}
INTRO = """\
`pytest -m slow -n 0 tests/test_killed_stages.py` ends the real stages of a small run of digits at random
moments (seeded), each of the six ten times in each way: the first time a process that still loads its
modules, the last time `dvc repro` with all its processes. After each the digest of every result file is that
of the earlier results or of the new ones, whole. What else is left lies there when the next one begins, and
after the ten `osr run` (`dvc repro`) ends with the weights, metrics and other files of an undisturbed run,
digest by digest. The disk is a tmpfs, of which a random part of what the stage writes is free.

| what ended it | earlier results whole | new results whole | of these, moved by the next stage |
|---|---|---|---|
"""


def tried(folder: Path, count: int, how: str, *names: str) -> dict:
    program = Path(__file__).with_name("killed_stages.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder), "0", str(count), how, *names],
        env={**os.environ, "OSR_TRACKING": "off", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_a_few(tmp_path):
    seen = tried(tmp_path, 4, "SIGKILL", "train", "plot")
    assert seen.get("earlier", 0) + seen.get("new", 0) == 8


@pytest.mark.slow
def test_ten_of_each_in_each_real_stage(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "small", disk], check=False).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        found = dict(ended_often(disk / "project", tmp_path))
    finally:
        subprocess.run(["umount", disk], check=True)
    counts = {how: np.zeros(3, int) for how in (*SIGNALS, FULL)}
    for name, how in product(STAGES, counts):
        seen = found[name][how]
        earlier, late = seen.get("earlier", 0), seen.get("new", 0)
        assert earlier + late == 10
        counts[how] += (earlier, late, seen.get(MIDDLE, 0))
    rows = [f"| {how} | {' | '.join(map(str, counts[how]))} |" for how in counts]
    assert all(earlier for earlier, _, _ in counts.values()), "the moments must lie within the stages"
    write_section("reliability.md", "A stage that is ended at a random moment", INTRO + "\n".join(rows))


def ended_often(root, logs):
    """What tests/killed_real_stages.py finds for each stage of a small finished project."""
    root.mkdir()
    project = clone(root)
    for key, value in SMALL.items():
        project.set(key, value)
    project.dvc("repro", OSR_TRACKING="off")
    project.timeout_s = 7200  # forty endings, and four runs of all that follows
    program = Path(__file__).with_name("killed_real_stages.py")
    for name in STAGES:
        command = [sys.executable, str(program), str(root), str(logs / f"{name}.log"), "10", name]
        path = os.pathsep.join((str(root), str(program.parent)))
        yield name, json.loads(project.run(*command, PYTHONPATH=path).splitlines()[-1])


def write(name, text):
    for out in STAGES[name].outs:
        file = new(out) if out.suffix else new(out) / f"{text}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def texts():
    return {file.read_text() for file in Path().rglob("*") if file.is_file()}


@pytest.mark.parametrize("renames", range(1 + 2 * len(STAGES["plot"].outs)))
def test_a_swap_that_ends_after_any_rename_is_finished(tmp_path, monkeypatch, renames):
    monkeypatch.chdir(tmp_path)
    with written_aside("plot"):
        write("plot", "earlier")
    left = iter(range(renames))

    def rename(self, target):
        if next(left, None) is None:
            raise KeyboardInterrupt
        os.rename(self, target)  # noqa: PTH104
        return target

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", rename)
        patched.setattr(swap.shutil, "move", lambda source, target: rename(Path(source), target))
        try:
            with written_aside("plot"):
                write("plot", "new")
        except KeyboardInterrupt:
            pass
    swap.discard("plot")
    finish_swaps()
    assert texts() == ({"new"} if renames else {"earlier"})
    assert not [*ASIDE.rglob("*.txt")]


@pytest.mark.skipif(sys.platform != "linux", reason="stage plot draws in one process elsewhere")
def test_processes_that_draw_do_not_outlive_a_killed_stage(tmp_path):
    """Else they wait for ever, and draw among the figures of the next run."""
    program = f"""
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from pipeline.report.figures import end_with_parent
def draw(number):
    Path({str(tmp_path)!r}, str(os.getpid())).touch()
    time.sleep(600)
with ProcessPoolExecutor(2, multiprocessing.get_context("fork"), initializer=end_with_parent) as pool:
    list(pool.map(draw, range(4)))
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as stage:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        stage.kill()
    for drawing in tmp_path.iterdir():
        wait_for(lambda: has_ended(int(drawing.name)))  # noqa: B023


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for(condition):
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_stage_does_not_write_it_must_not_leave(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with written_aside("plot"):
        write("plot", "earlier")
    told = []
    with pytest.raises(FileNotFoundError, match=FIGURES.name), written_aside("plot"):  # noqa: PT012
        write("plot", "new")
        afterwards(lambda: told.append("whole"))
        for file in new(FIGURES).iterdir():
            file.unlink()
        new(FIGURES).rmdir()
    swap.discard("plot")
    assert texts() == {"earlier"}
    assert not told
    with written_aside("plot"):
        write("plot", "new")
        afterwards(lambda: told.append("whole"))
        assert not told
    assert told == ["whole"]
    assert new(FIGURES) == FIGURES
