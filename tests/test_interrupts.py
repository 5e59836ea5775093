"""Ctrl-C while a program of ours is still loaded: one line and status 130."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.workspace import interrupts

ROOT = Path(__file__).parents[1]


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT is not ignored, as it is in the background, by us and by the programs that begin here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("module", ["pipeline.train", "pipeline.cli"])
@pytest.mark.parametrize("loaded", ["pipeline", "osr.errors", "numpy"])
def test_while_modules_are_imported(module: str, loaded: str, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", module, *(["split"] if "cli" in module else [])]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OSR_TRACKING": "off"}
    (tmp_path / "params.yaml").touch()  # without one `osr split` ends before it loads NumPy
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    ) as program:
        for line in program.stderr:
            if line.split("|")[-1].strip() == loaded:
                break
        program.send_signal(signal.SIGINT)
        rest = [line for line in program.stderr if not line.startswith("import time:")]
    assert rest == ["ERROR: interrupted.\n"]
    assert program.returncode == 130


def test_who_imports_us_keeps_the_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupts.while_loading()
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.while_working()
    interrupts.while_ending()
    assert signal.getsignal(signal.SIGINT) is before
    assert not interrupts.is_interrupt(ValueError())


def test_an_error_after_ctrl_c_is_its_consequence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Libraries turn KeyboardInterrupt into others."""
    from pipeline import cli

    def turned(_options: object) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("cannot import name") from None
        return 0

    monkeypatch.setattr("pipeline.tracking.sync.run", turned)
    monkeypatch.setattr(interrupts, "_came", [])
    before = signal.signal(signal.SIGINT, interrupts._leave)
    try:
        assert cli.main(["tracking", "sync"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "ERROR: interrupted.\n"
