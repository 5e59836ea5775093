"""New images through the predictor and its command: what the stages would have said, for any file."""

import csv
import errno
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from extracted import save_split, split_of_images
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tampering import rewrite
from test_extraction import CPU, IMAGES, build

from osr.calibration.calibrators import CalibrationFit, Temperature
from osr.calibration.files import save_calibration
from osr.data.batches import ArrayImages
from osr.detectors.registry import build_detectors
from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.inference.extraction import extract
from osr.metrics.threshold_files import save_thresholds
from osr.metrics.thresholds import Threshold
from osr.params import load_params
from osr.stored.arrays import write_arrays
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.workspace.stages import CALIBRATOR, DETECTORS, PARAMS, SPLIT, THRESHOLDS, VAL_SCORES, WEIGHTS

ROOT = Path(__file__).parents[1]
LABELS = np.arange(30) % 3


def known_outputs(model):
    rows = np.arange(30)
    images = ArrayImages(IMAGES, rows, torch.from_numpy(LABELS))
    return extract(model, images, index=rows, batch_size=8, device=CPU, title="test")


def fitted(train, **changes):
    settings = load_params(ROOT / "params.yaml").detectors
    mahalanobis = settings.mahalanobis.model_copy(update=changes)
    enabled = {"enabled": ("maxlogit", "mahalanobis"), "mahalanobis": mahalanobis}
    detectors = build_detectors(settings.model_copy(update=enabled))
    return {name: detector.fit(train) for name, detector in detectors.items()}


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    made = build()
    made.made_from = Origin(split=split_of_images().digest)
    return made


@pytest.fixture
def run(model, tmp_path, monkeypatch):
    """The files of a finished run in the working directory; the threshold accepts two thirds."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_run(tmp_path, model)
    return tmp_path


@pytest.fixture
def exportable(run):
    """The same, with settings that enable the detectors there are."""
    params = run / "params.yaml"
    text = re.sub(r"(  enabled): .*", r"\1: [maxlogit, mahalanobis]", params.read_text(), count=1)
    params.write_text(text)
    return run


def write_run(root, model, targets=None, **settings):
    """The files of a run that judge images.

    Thresholds accept `targets`, by detector; two thirds otherwise. `settings` are those of mahalanobis.
    """
    model.save(root / WEIGHTS)
    train = known_outputs(model)
    fit = CalibrationFit(Temperature(2.0), "temperature", None, None, 30, 0.5, 0.4)
    save_calibration(root / CALIBRATOR, fit, train.made_from)
    thresholds, digests = {}, {}
    for name, detector in fitted(train, **settings).items():
        digests[name] = detector.save(root / DETECTORS / f"{name}.safetensors")
        target = (targets or {}).get(name, 2 / 3)
        last = round(30 * target) - 1
        value = float(np.sort(detector.score(train))[last : last + 2].mean())  # between two images
        thresholds[name] = Threshold(value, "acceptance", target, target, 30)
    digest = save_thresholds(root / THRESHOLDS, thresholds, digests, train.made_from)
    scores = {name: detector.score(train) for name, detector in fitted(train, **settings).items()}
    scored = train.made_from.model_copy(update={"thresholds": digest})
    write_arrays(root / VAL_SCORES, "validation scores", {}, scored, scores)
    save_split(root / SPLIT, train.made_from.split)


def load(name="maxlogit", batch_size=7):
    return OpenSetClassifier.from_files(
        weights=WEIGHTS,
        calibration=CALIBRATOR,
        detectors={name: DETECTORS / f"{name}.safetensors"},
        thresholds=THRESHOLDS,
        scores=VAL_SCORES,
        detector=name,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("name", ["maxlogit", "mahalanobis"])
@pytest.mark.usefixtures("run")
def test_the_verdict_is_what_the_stages_compute(model, name):
    outputs = known_outputs(model)
    scores = fitted(outputs)[name].score(outputs)
    verdict = load(name, batch_size=8).predict(IMAGES)
    assert_array_equal(verdict.scores, scores)  # to the last bit, in the same batches
    assert_array_equal(verdict.predictions, outputs.predictions)
    assert sum(label == "unknown" for label in verdict.labels) == 10
    for label, prediction, score in zip(verdict.labels, verdict.predictions, scores, strict=True):
        assert label in ("unknown", "abc"[prediction])
        assert (label == "unknown") == (score > np.sort(scores)[19])
    assert_allclose(verdict.probabilities, torch.softmax(torch.from_numpy(outputs.logits) / 2, 1), rtol=1e-5)


@pytest.mark.usefixtures("run")
def test_images_of_many_sizes_are_judged_one_by_one_alike():
    predictor = load(batch_size=2)
    images = [IMAGES[0], IMAGES[1, :4], IMAGES[2].repeat(3, axis=0), IMAGES[3], IMAGES[4, :4], IMAGES[5]]
    together = predictor.predict(images)
    for row, image in enumerate(images):
        alone = predictor.predict([image])
        assert_allclose(alone.scores, together.scores[row : row + 1], rtol=1e-5)
        assert alone.labels == together.labels[row : row + 1]


@pytest.mark.usefixtures("run")
def test_threshold_can_be_another_one():
    predictor = load()
    assert set(predictor.predict(IMAGES, threshold=-np.inf).labels) == {"unknown"}
    assert "unknown" not in predictor.predict(IMAGES, threshold=np.inf).labels


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "image",
    [IMAGES[0, ..., 0], IMAGES[0].astype(float), np.zeros((0, 6, 1), np.uint8), IMAGES[0].repeat(3, 2)],
)
def test_arrays_of_another_kind_are_refused(image):
    with pytest.raises(InputError, match=r"image 1 must be \(H, W, 1\) uint8, not "):
        load().judge([IMAGES[0], image])


@pytest.mark.usefixtures("run")
def test_a_detector_without_threshold_is_refused():
    rewrite(THRESHOLDS, lambda content: content.pop("maxlogit"))
    with pytest.raises(InputError, match="no threshold for maxlogit; there are: mahalanobis"):
        load()


NAMES = ("a.png", "b.jpg", "c.png")


def test_command_judges_files_and_names_the_bad_ones(run, caplog, capsys):
    folder = run / "new" / "deep"
    folder.mkdir(parents=True)
    Image.fromarray(IMAGES[0, ..., 0]).save(folder / "a.png")
    Image.fromarray(IMAGES[1, ..., 0]).convert("RGB").resize((40, 30)).save(folder / "b.jpg")
    (folder / "c.png").write_text("no image")
    (folder / "notes.txt").write_text("passed over")
    assert cli.main(["predict", "new", "--output", "verdicts.csv"]) == 1
    assert "new/deep/c.png is no image that can be read" in caplog.text
    first, second, bad = csv.DictReader(Path("verdicts.csv").read_text().splitlines())
    assert [row["file"] for row in (first, second, bad)] == [f"new/deep/{name}" for name in NAMES]
    assert (bad["label"], bad["score"], bad["p/a"]) == ("", "", "")
    assert bad["reason"].startswith("new/deep/c.png is no image that can be read")
    assert first["reason"] == ""
    expected = load().predict([IMAGES[0]])
    assert first["label"] == expected.labels[0]
    assert float(first["score"]) == pytest.approx(expected.scores[0])
    assert sum(float(first[f"p/{name}"]) for name in "abc") == pytest.approx(1)

    assert (
        cli.main(
            ["predict", "new/deep/a.png", "--format", "json", "--threshold", "1e9", "--detector", "maxlogit"]
        )
        == 0
    )
    (record,) = json.loads(capsys.readouterr().out)
    assert record["label"] == record["nearest"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing"], "missing does not exist."),
        (["empty"], "empty holds no image: names must end in one of .png"),
        (["params.yaml"], "params.yaml is no image that can be read"),
        (
            ["params.yaml", "--detector", "vim"],
            "is 'vim', but must be one of detectors.enabled: msp",
        ),
        (["params.yaml", "--detector", "vim"], ",vim]'` fits it, too, and trains nothing anew."),
        (["params.yaml", "--detector", "maxlogitt"], "'maxlogitt'; did you mean 'maxlogit'? It must"),
    ],
)
def test_mistakes_are_one_sentence(run, capsys, caplog, arguments, sentence):
    (run / "empty").mkdir()
    assert cli.main(["predict", *arguments]) == 1
    assert sentence in capsys.readouterr().err + caplog.text
    assert load_params(PARAMS)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("threshold", ["nan", "much"])
def test_a_threshold_that_is_no_number_is_refused(threshold, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["predict", "params.yaml", "--threshold", threshold])
    assert left.value.code == 2
    assert f"argument --threshold: must be a number, not {threshold}" in capsys.readouterr().err


def png(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(IMAGES[number, ..., 0]).save(path)


def test_odd_files_end_no_call_and_are_counted(run, caplog, capsys):
    png(run / "new/a.png")
    png(run / "new/.hidden.png")
    png(run / "new/.checkpoints/b.png")
    png(run / "named/.hidden.png", 1)
    os.mkfifo(run / "new/pipe.png")
    os.mkfifo(run / "named/pipe")
    Image.fromarray(IMAGES[2, ..., 0].astype(np.uint16) * 16).save(run / "new/deep.png")
    for name in ("phone.heic", "notes.txt"):
        (run / "new" / name).write_text("no image")
    (run / "new/link").symlink_to(run / "new")
    Path(os.fsdecode(os.fsencode(run) + b"/new/\xff.png")).write_bytes((run / "new/a.png").read_bytes())
    assert cli.main(["predict", "new", "named/.hidden.png", "--output", "v.csv"]) == 0
    files = [line["file"] for line in csv.DictReader(Path("v.csv").read_text("utf-8").splitlines())]
    assert files == ["new/a.png", "new/deep.png", r"new/\udcff.png", "named/.hidden.png"]
    assert "1 images converted: 12-bit grey, 0..4095 read as 0..255" in caplog.text
    assert (
        "2 hidden, 1 .heic, 1 .txt, 1 links to folders or to nothing, 1 pipes and devices; HEIC"
        in caplog.text
    )
    assert cli.main(["predict", "new/a.png", "named/pipe", "/dev/zero"]) == 1
    assert "named/pipe is a pipe, a socket or a device" in caplog.text
    assert "/dev/zero is a pipe, a socket or a device" in caplog.text
    assert cli.main(["predict", "new", "--format", "json"]) == 0
    capsys.readouterr()


def test_a_name_that_is_no_utf_8_goes_to_any_terminal(run, monkeypatch):
    name = os.fsdecode(b"\xff.png")
    png(run / name)
    for encoding in ("utf-8", "ascii"):
        with io.TextIOWrapper(io.BytesIO(), encoding=encoding) as terminal:
            monkeypatch.setattr(sys, "stdout", terminal)
            assert cli.main(["predict", name]) == 0
            terminal.flush()
            assert b"\n\\udcff.png," in terminal.buffer.getvalue()


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("gone/v.csv", "gone/v.csv cannot be written: No such file or directory."),
        ("new", "new is a folder or a device, but must be a file to write."),
        ("/dev/full", "/dev/full is a folder or a device, but must be a file to write."),
        ("a.png/v.csv", "a.png/v.csv cannot be written: Not a directory."),
        ("x" * 300, "cannot be written: File name too long."),
    ],
)
def test_where_nobody_can_write_is_said_before_the_work(run, capsys, monkeypatch, output, sentence):
    png(run / "a.png")
    (run / "new").mkdir()
    monkeypatch.setattr("pipeline.serving.predict.load_classifier", None)
    assert cli.main(["predict", "a.png", "--output", output]) == 1
    assert sentence in capsys.readouterr().err


def test_a_disk_that_fills_up_leaves_the_earlier_file(run, capsys, monkeypatch):
    png(run / "a.png")
    Path("v.csv").write_text("earlier")

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(csv.DictWriter, "writerows", full)
    assert cli.main(["predict", "a.png", "--output", "v.csv"]) == 1
    assert "v.csv could not be written: No space left on device." in capsys.readouterr().err
    assert Path("v.csv").read_text() == "earlier"
    assert not list(Path().glob(".v.csv*"))
