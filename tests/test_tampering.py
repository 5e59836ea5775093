"""A model folder in which anything was changed is refused by the name of the file, or gives what it gave."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from extracted import IMAGES
from pages import check_section
from tampering import ODD, described, places, put, rewrite
from test_predict import load, model, run  # noqa: F401 (model and run are fixtures)

from osr.calibration.calibrators import CalibrationFit, Isotonic, Vector
from osr.calibration.files import load_calibration, save_calibration
from osr.detectors.registry import load_detector
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.metrics.threshold_files import load_thresholds
from osr.models.open_set_model import OpenSetModel
from pipeline.workspace.stages import CALIBRATOR, DETECTORS, THRESHOLDS, WEIGHTS

DETECTOR = DETECTORS / "mahalanobis.safetensors"
FILES = (WEIGHTS, CALIBRATOR, DETECTOR, THRESHOLDS)
BYTE_TRIALS = 20  # of each file and kind of damage
SENTENCES = (
    "was changed after osr wrote it",
    "is damaged, or of another version of osr",
    "is missing",
    "was not written by osr",
    "does not say what it was made from",
    "but must hold",
    "its name must be",
)
HEADING = "A model folder in which something was changed"


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    end = len(content) if rng.random() < 0.5 else min(3000, len(content))  # half of them in the header
    place = int(rng.integers(end))
    return content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def lengthen(content: bytes, rng: np.random.Generator) -> bytes:
    return content + rng.bytes(int(rng.integers(1, 100)))


def blank(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(content)))
    stop = min(len(content), start + int(rng.integers(1, 600)))
    return content[:start] + bytes(stop - start) + content[stop:]


DAMAGE = {"a bit flipped": flip, "cut short": cut, "lengthened": lengthen, "a stretch of zeros": blank}


def verdict_of(predictor: OpenSetClassifier) -> tuple:
    verdict = predictor.predict(IMAGES[:3])
    return verdict.labels, verdict.scores.tobytes(), verdict.probabilities.tobytes()


def outcome(path: Path, expected: tuple) -> str:
    """What was said, or that the result is the same."""
    try:
        found = verdict_of(load("mahalanobis"))
    except InputError as error:
        return refused(path, error)
    assert found == expected, path
    return "the same result"


def refused(path: Path, error: InputError) -> str:
    """Which sentence it is; it is one alone, and names the file."""
    said = str(error)
    assert path.name in said, said
    assert len(said.splitlines()) == 1, said
    assert len(said) < 1000, said
    return next(f"*… {kind}*" for kind in SENTENCES if kind in said)


def loaded(path: Path) -> None:
    """Load one file by itself and use it once."""
    if path == WEIGHTS:
        OpenSetModel.load(path)
    elif path == CALIBRATOR:
        probabilities = load_calibration(path).fit.calibration.apply(np.ones((2, 3), np.float32))
        assert np.isfinite(probabilities).all()
    elif path == DETECTOR:
        load_detector(path)
    else:
        assert all(np.isfinite(fit.value) for fit in load_thresholds(path).of.values())


@pytest.fixture
def table() -> Counter:
    return Counter()


@pytest.mark.usefixtures("run")
def test_every_change_is_refused_or_harmless(table: Counter) -> None:
    rng, expected = np.random.default_rng(0), verdict_of(load("mahalanobis"))
    for path in FILES:
        whole = path.read_bytes()
        for name, damage in DAMAGE.items():
            for _ in range(BYTE_TRIALS if len(whole) < 100_000 else BYTE_TRIALS // 2):
                path.write_bytes(damage(whole, rng))
                table[path.name, name, outcome(path, expected)] += 1
        path.write_bytes(whole)
    swaps(expected, table)
    values(table)
    check_section("reliability.md", HEADING, page(table), counts=True)


def swaps(expected: tuple, table: Counter) -> None:
    """Files that are missing, or stand under the name of another."""
    for path in FILES:
        kept = path.read_bytes()
        for other in FILES:
            if other != path:
                shutil.copy(other, path)
                table[path.name, "another file under its name", outcome(path, expected)] += 1
                path.write_bytes(kept)
        for content in (b"", b"text", b"[" * 100_000, b"{}", b"null", bytes(64), b"\xff" * 64):
            path.write_bytes(content)
            table[path.name, "other content", outcome(path, expected)] += 1
        path.unlink()
        table[path.name, "missing", outcome(path, expected)] += 1
        path.mkdir()
        table[path.name, "a folder", outcome(path, expected)] += 1
        path.rmdir()
        path.write_bytes(kept)
    shutil.copy(DETECTORS / "maxlogit.safetensors", DETECTOR)
    table[DETECTOR.name, "another detector under its name", outcome(DETECTOR, expected)] += 1


def values(table: Counter) -> None:
    """Every value of every file is replaced by odd ones in turn, and the file stamped anew."""
    model = OpenSetModel.load(WEIGHTS)  # noqa: F811
    calibrations = [Vector((1.0, 2.0, 3.0), (0.0, 0.1, 0.2)), Isotonic((0.5, 0.7), (0.6, 0.8))]
    load_all = [(path, path.read_bytes()) for path in FILES if path != DETECTOR]
    for calibration in calibrations:
        fit = CalibrationFit(calibration, calibration.method, None, None, 30, 0.5, 0.4)
        save_calibration(CALIBRATOR, fit, model.origin)
        load_all.append((CALIBRATOR, CALIBRATOR.read_bytes()))
    for name in ("mahalanobis", "maxlogit"):
        path = DETECTORS / f"{name}.safetensors"
        load_all.append((path, path.read_bytes()))
    for path, whole in load_all:
        path.write_bytes(whole)
        step = 7 if path == WEIGHTS else 3
        for number, place in enumerate(list(places(described(path)["content"]))[1:]):
            for value in ODD[number % step :: step]:
                path.write_bytes(whole)
                rewrite(path, lambda content, place=place, value=value: put(content, place, value))
                table[path.name, "a value replaced, stamped anew", alone(path)] += 1
        path.write_bytes(whole)


def alone(path: Path) -> str:
    try:
        loaded(path)
    except InputError as error:
        return refused(path, error)
    return "a value that is allowed"


def page(table: Counter) -> str:
    changes: dict[str, Counter] = {}
    for (_, change, said), count in table.items():
        changes.setdefault(change, Counter())[said] += count
    lines = [
        "`pytest -n 0 tests/test_tampering.py` changes the four files that `osr predict` reads in "
        f"{table.total():,} ways (seeded):",
        "each ends in one sentence that names the file, or in the same verdicts as before. *Stamped anew* is",
        "what somebody does who changes a value and also the digest: then it must be one that is allowed.",
        "",
        "| what was changed | tried | what is said |",
        "|---|---|---|",
    ]
    for change, sentences in changes.items():
        told = "; ".join(f"{said} ({count})" for said, count in sorted(sentences.items()))
        lines.append(f"| {change} | {sentences.total()} | {told} |")
    return "\n".join(lines)
