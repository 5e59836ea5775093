"""Rejecting many images together: few of the rejected ones are known, whatever the known ones' scores."""

import csv
import itertools
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import false_discovery_control
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run  # noqa: F401 (fixtures)
from test_recalibrate import save, shifted

import osr
from osr.errors import InputError
from osr.metrics.false_discovery import FalseDiscovery, fewest_strangest, is_rejected
from osr.metrics.thresholds import conformal_p_values
from pipeline import cli


def q_values(p_values: np.ndarray, *, parts: int = 1) -> np.ndarray:
    found = FalseDiscovery()
    for part in np.array_split(p_values, parts):
        found.add(part)
    of = found.q_values()
    return np.array([of[p] for p in p_values.tolist()])


def test_q_values_are_those_of_scipy_however_they_come() -> None:
    rng = np.random.default_rng(0)
    for p_values in (rng.random(50), rng.integers(1, 20, 300) / 20, np.ones(3), np.array([0.01])):
        expected = false_discovery_control(p_values)
        for parts in (1, 2):
            assert_allclose(q_values(p_values, parts=parts), expected, rtol=1e-12)
    assert FalseDiscovery().q_values() == {}
    assert is_rejected(0.1 + 0.2, 0.3)


def test_with_one_strangest_image_less_none_is_rejected() -> None:
    for num_images, num_known, level in itertools.product((1, 7, 80, 1000), (19, 50, 99), (0.05, 0.1, 0.3)):
        fewest = fewest_strangest(num_images, num_known, level)
        assert 1 <= fewest <= num_images
        for count, expected in ((fewest, fewest), (fewest - 1, 0)):
            p_values = np.repeat([1 / (num_known + 1), 1], [count, num_images - count])
            assert is_rejected(q_values(p_values), level).sum() == expected, (num_images, num_known, level)
    assert fewest_strangest(80, 50, 0.05) == 32


@pytest.mark.parametrize("wrong", [[-0.1], [1.1], [math.nan], [[0.5]]])
def test_what_is_no_p_value_is_refused(wrong: list) -> None:
    with pytest.raises(InputError, match="p-values must be a vector of numbers in"):
        FalseDiscovery().add(wrong)


def test_the_share_of_knowns_among_the_rejected_is_what_was_asked() -> None:
    """One in five is unknown: the mean share comes close to 0.8 times the level, and not above the level."""
    rng, level, shares, found = np.random.default_rng(1), 0.2, [], []
    for _ in range(400):
        is_unknown = rng.random(150) < 0.2
        scores = rng.normal(size=150) + 3 * is_unknown
        rejected = is_rejected(q_values(conformal_p_values(rng.normal(size=200), scores)), level)
        shares.append((rejected & ~is_unknown).sum() / max(1, rejected.sum()))
        found.append((rejected & is_unknown).sum() / is_unknown.sum())
    error = np.std(shares) / 20
    assert np.mean(shares) < level
    assert abs(np.mean(shares) - 0.8 * level) < 4 * error
    assert np.mean(found) > 0.7


def predict(*arguments: str) -> int:
    return cli.main(["predict", "new", "--model", "classifier", *arguments])


@pytest.mark.usefixtures("folder")
def test_the_command_decides_on_all_together(caplog, capsys) -> None:
    save(shifted(30), Path("new"))
    png(Path("new/000.png"))
    Path("new/x.png").write_text("no image")
    judged = osr.load("classifier").predict(sorted(map(str, Path("new").glob("0*.png"))))
    expected = false_discovery_control(judged.p_values)
    level = float(np.median(expected))
    caplog.set_level("INFO")
    for form in ("csv", "jsonl", "json", "parquet"):
        assert predict("--fdr", str(level), "--format", form, "--output", f"v.{form}") == 1
    rejected = int(is_rejected(expected, level).sum())
    assert 0 < rejected < 30
    assert (
        f"unknown: {rejected}, 1 unreadable. Of the rejected ones {level:.1%} at most should be known"
        in caplog.text
    )
    rows = json.loads(Path("v.json").read_text())
    assert [row["file"] for row in rows][-1] == "new/x.png"
    assert rows[-1]["q_value"] is None
    assert rows[-1]["label"] is None
    for row, q_value, p_value in zip(rows, expected, judged.p_values, strict=False):
        assert (row["q_value"], row["p_value"]) == (pytest.approx(q_value, rel=1e-12), p_value)
        assert row["label"] == ("unknown" if q_value <= level * (1 + 1e-12) else row["nearest"])
    assert list(rows[0])[:5] == ["file", "label", "score", "p_value", "q_value"]
    (_, *lines) = csv.reader(Path("v.csv").read_text().splitlines())
    assert [line[4] for line in lines] == [
        "" if row["q_value"] is None else str(row["q_value"]) for row in rows
    ]
    capsys.readouterr()
    predict("--fdr", str(level))
    assert capsys.readouterr().out == Path("v.csv").read_text()


@pytest.mark.usefixtures("folder")
def test_why_none_is_rejected_is_told(caplog) -> None:
    save(shifted(30), Path("new"))
    png(Path("new/000.png"))
    caplog.set_level("INFO")
    assert predict("--fdr", "0.04") == 0
    why = "that would take 25 of the 30 images stranger than all 30 known images held out, or more of them"
    assert f"unknown: 0. --fdr 0.04 rejects none: {why} nearly as strange. More images held" in caplog.text
    assert "Of the rejected ones" not in caplog.text


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_decided_together_is_one_sentence(capsys, monkeypatch) -> None:
    save(shifted(3), Path("new"))
    for arguments, sentence in (
        (["--fdr", "0.03"], "0.03 rejects no image by the scores of 30 validation images: it needs 33."),
        (["--fdr", "0.1", "--gallery", "x.html"], "--gallery shows images as they are judged, and --fdr"),
    ):
        assert predict(*arguments) == 1
        assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        predict("--fdr", "1.5")
    with pytest.raises(SystemExit):
        predict("--fdr", "0.1", "--accept", "0.9")
    capsys.readouterr()
    full = Path("/dev/full").open("w")  # noqa: SIM115
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: full)
    Path("v.csv").write_text("earlier")
    assert predict("--fdr", "0.1", "--output", "v.csv") == 1
    assert "cannot hold the rows that wait for --fdr: No space left on device." in capsys.readouterr().err
    assert Path("v.csv").read_text() == "earlier"
