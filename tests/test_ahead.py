"""Work in other processes: in order, with its errors, and gone at once when this one is told to end."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run  # noqa: F401 (fixtures)

from osr.data.ahead import PER_WORKER, ahead
from osr.errors import InputError
from osr.inference import streams
from pipeline import cli
from pipeline.serving import network
from pipeline.workspace import interrupts

TRIES = int(os.environ.get("OSR_TRIES", "4"))  # of each kind; more by hand


def work(number: int) -> torch.Tensor:
    if number == 5:
        raise InputError("Five is none of ours.")
    if number == 6:
        raise KeyError("six")
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.full((3,), number)


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_come_in_order_however_long_each_takes(num_workers: int) -> None:
    taken = []

    def numbers() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    def slow(number: int) -> tuple[int, bytes]:
        time.sleep(0.01 * (number % 3 == 0))
        return number, bytes(300_000)  # more than a pipe holds

    found = ahead(slow, numbers(), num_workers=num_workers)
    assert next(found)[0] == 0
    assert len(taken) <= 1 + num_workers * PER_WORKER
    assert [number for number, _ in found] == list(range(1, 12))
    assert list(ahead(work, [], num_workers=num_workers)) == []


def test_tensors_come_back_and_errors_are_raised_here() -> None:
    assert torch.equal(torch.stack(list(ahead(work, range(5), num_workers=2)))[:, 0], torch.arange(5))
    with pytest.raises(InputError, match=r"^Five is none of ours\.$"):
        list(ahead(work, [1, 5], num_workers=2))
    with pytest.raises(RuntimeError, match=r"KeyError: 'six'"):
        list(ahead(work, [6], num_workers=1))
    with pytest.raises(
        InputError, match=r"ended from outside \(status -9\).*--workers, or train\.num_workers"
    ):
        list(ahead(work, [1, 7, 2, 3], num_workers=2))


def in_a_child(act: Callable[[], int], errors: Path) -> int:
    """Id of a process, and of its group, that is this one's copy and ends with the status of `act`."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, interrupts._leave)  # as in a program of ours, before `act`
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115, of this process
            status = act()
        finally:
            os._exit(status)
    return pid


@pytest.mark.parametrize("rest", [["--output", "v.csv"], ["--fdr", "0.4"]])
def test_ctrl_c_ends_predict_and_its_readers(folder, monkeypatch, rest) -> None:  # noqa: F811
    """At random moments; what is said is one line, and the earlier verdicts stay."""
    for number in range(12):
        png(Path(f"new/{number}.png"), number)
    read = streams.read_fitted

    def slowly(*arguments, **options):
        time.sleep(0.02)
        return read(*arguments, **options)

    monkeypatch.setattr(streams, "read_fitted", slowly)
    loaded = network.OpenSetClassifier.load
    monkeypatch.setattr(
        network.OpenSetClassifier, "load", classmethod(lambda _, *a, **k: small(loaded(*a, **k)))
    )
    Path("v.csv").write_text("earlier")
    draws, ended = random.Random(0), []
    for number in range(TRIES):
        errors = Path.cwd() / f"{number}.txt"
        arguments = ["predict", *["new"] * 3, "--model", str(folder), "--workers", "2", *rest]
        pid = in_a_child(lambda arguments=arguments: cli.main(arguments), errors)
        while not errors.exists():
            time.sleep(0.001)
        time.sleep(draws.uniform(0.0, 0.5))
        os.killpg(pid, signal.SIGINT)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = errors.read_text()
        assert "Traceback" not in said
        assert status in (0, 130), said
        if status == 130:
            assert said.endswith("ERROR: interrupted.\n")
            assert Path("v.csv").read_text() == "earlier"
        ended.append(status)
        deadline = time.monotonic() + 30
        while is_there(pid):
            assert time.monotonic() < deadline, "a reader is still there"
            time.sleep(0.01)
    assert 130 in ended


def small(classifier):
    classifier.batch_size = 2
    return classifier


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
