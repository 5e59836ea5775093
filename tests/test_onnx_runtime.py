"""The exported folder: its graph, the runtime that judges by it, and what has no graph."""

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from extracted import IMAGES, split_of_images
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from test_detectors import make
from test_predict import ROOT, model, write_run  # noqa: F401 (a fixture)

import osr
from osr.detectors.ensemble import Ensemble
from osr.errors import InputError
from osr.inference import graph, graph_files
from osr.metrics.thresholds import Threshold
from osr.models.computing import Computing
from pipeline import cli

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: osr[onnx]")

import osr_runtime  # noqa: E402 (needs ONNX Runtime)
from osr_runtime.cli import main as runtime_main  # noqa: E402
from osr_runtime.fitting import Square  # noqa: E402
from osr_runtime.shared.judgement import Known  # noqa: E402
from test_onnx import OTHERS, SIZES, fitted, network, parts_of  # noqa: E402, F401 (fixtures)


@pytest.fixture(scope="module")
def project(model, tmp_path_factory):  # noqa: F811
    """A finished run of maxlogit and mahalanobis."""
    root = tmp_path_factory.mktemp("project")
    text = (ROOT / "params.yaml").read_text()
    text = re.sub(r"(  enabled): .*", r"\1: [maxlogit, mahalanobis]", text, count=1)
    (root / "params.yaml").write_text(text)
    write_run(root, model)
    return root


@pytest.fixture(scope="module")
def exported(project):
    """Its classifier with both graphs, as the command makes them."""
    out = project / "classifier"
    with contextlib.chdir(project):
        flags = ["--onnx", "--torch-export", "--detector", "mahalanobis"]
        assert cli.main(["export", str(out), *flags]) == 0
    return out


@pytest.fixture
def folder(exported, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(exported, tmp_path / "classifier"))


def assert_same(found, expected):
    assert found.labels == expected.labels
    assert found.names == expected.names
    assert found.class_names == expected.class_names
    assert_array_equal(found.predictions, expected.predictions)
    assert_allclose(found.scores, expected.scores, rtol=1e-4)
    assert_allclose(found.probabilities, expected.probabilities, rtol=1e-3, atol=1e-6)
    assert_array_equal(found.p_values, expected.p_values)


def test_the_runtime_judges_as_the_library_does(exported, tmp_path):
    draws, classifier, runtime = np.random.default_rng(3), osr.load(exported), osr_runtime.load(exported)
    assert_same(runtime.predict(OTHERS), classifier.predict(OTHERS))
    assert 0 < runtime.predict(OTHERS).labels.count("unknown") < 40
    images = [draws.integers(0, 256, (*size, 1), dtype=np.uint8) for size in (*SIZES, (6, 6), (5, 17))]
    assert_same(runtime.predict(images), classifier.predict(images))
    photo = Image.fromarray(draws.integers(0, 256, (170, 210, 3), dtype=np.uint8))
    for name, options in (("a.png", {}), ("b.jpg", {"quality": 80}), ("c.bmp", {}), ("small.png", {})):
        (photo.resize((30, 20)) if name == "small.png" else photo).save(tmp_path / name, **options)
    content = (tmp_path / "b.jpg").read_bytes()
    mixed = [tmp_path / "a.png", content, photo.convert("CMYK"), images[1]]
    for given in (tmp_path, str(tmp_path / "small.png"), content, photo, mixed):
        assert_same(runtime.predict(given), classifier.predict(given))
    for row, best in zip(runtime.predict(OTHERS).top(2), classifier.predict(OTHERS).top(2), strict=True):
        assert [name for name, _ in row] == [name for name, _ in best]


@pytest.mark.parametrize(
    "options",
    [{"threshold": 3.0}, {"accept": 0.5}, {"accept": 1.0}, {"p_value": 0.1}, {"detector": "mahalanobis"}],
    ids=str,
)
def test_decisions_follow_from_the_stored_scores(exported, options):
    runtime, classifier = osr_runtime.load(exported), osr.load(exported)
    assert_same(runtime.predict(OTHERS, **options), classifier.predict(OTHERS, **options))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": 1.0, "accept": 0.9}, "Only one of threshold, accept and p_value may be given"),
        ({"accept": 1.5}, "accept is 1.5, but must be above 0 and at most 1."),
        ({"detector": "maxlogit"}, "detector is 'maxlogit', but must be one of mahalanobis"),
        ({"detector": "mds"}, r"detector is 'mds'; did you mean 'mahalanobis'\? It must be one of mahal"),
        ({"inputs": [b"no image"]}, "image 0 is no image that can be read"),
        ({"inputs": np.zeros((1, 6, 6, 3), np.uint8)}, r"image 0 must be \(H, W, 1\) uint8"),
    ],
)
def test_the_runtime_says_mistakes_in_one_sentence(exported, options, sentence):
    with pytest.raises(osr_runtime.InputError, match=sentence):
        osr_runtime.load(exported).predict(**{"inputs": IMAGES[:1]} | options)


def test_the_graph_alone_has_a_default_threshold_and_says_what_it_is(exported):
    session = onnxruntime.InferenceSession(exported / "classifier.onnx")
    (images,), (threshold,) = session.get_inputs(), session.get_overridable_initializers()
    assert (images.name, images.shape) == ("images", ["num_images", "height", "width", 1])
    assert (threshold.name, threshold.shape, threshold.type) == ("threshold", [], "tensor(double)")
    expected = osr.load(exported).predict(IMAGES)
    labels = [-1 if label == "unknown" else "abc".index(label) for label in expected.labels]
    label, prediction = session.run(["label", "prediction"], {"images": IMAGES})
    assert label.tolist() == labels
    assert_array_equal(prediction, expected.predictions)
    for theta, wanted in ((1e9, prediction), (-1e9, np.full(30, -1))):
        assert_array_equal(
            session.run(["label"], {"images": IMAGES, "threshold": np.array(theta)})[0], wanted
        )
    said = session.get_modelmeta().custom_metadata_map
    names, split = json.loads(said["class_names"]), json.loads(said["digests"])["split"]
    assert (names, said["detector"], split) == (["a", "b", "c"], "mahalanobis", split_of_images().digest)
    assert json.loads(said["threshold"])["acceptance"] == pytest.approx(2 / 3)
    for name in ("classifier.onnx", "classifier.pt2"):
        assert str(ROOT).encode() not in (exported / name).read_bytes()


def test_the_program_of_torch_says_the_same(exported):
    said = {"classifier.json": ""}
    program = torch.export.load(exported / "classifier.pt2", extra_files=said).module()
    threshold = json.loads(json.loads(said["classifier.json"])["threshold"])["value"]
    for images in (IMAGES, IMAGES[:1, :5], np.tile(IMAGES[:2], (1, 7, 3, 1))):
        expected = osr.load(exported).predict(images)
        with torch.inference_mode():
            found = program(torch.from_numpy(images), torch.tensor(threshold, dtype=torch.float64))
        assert_allclose(found["score"], expected.scores, rtol=1e-4)
        assert_array_equal(found["label"] < 0, np.array(expected.labels) == "unknown")
    asked = program(torch.from_numpy(IMAGES), torch.tensor(threshold, dtype=torch.float64))
    assert not any(answer.requires_grad for answer in asked.values())


def test_a_changed_byte_is_refused_by_name(folder):
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(osr_runtime.InputError, match=re.escape(file.name)):
            osr_runtime.load(folder)
        with pytest.raises(InputError, match=re.escape(file.name)):
            osr.load(folder)
        file.write_bytes(whole)
    # A graph, its description and the scores are enough.
    for file in (*folder.glob("detectors/*"), folder / "model.safetensors", folder / "calibration.json"):
        file.unlink()
    assert osr_runtime.load(folder).predict(IMAGES).names[-1] == "29"
    (folder / "classifier.onnx").unlink()
    with pytest.raises(osr_runtime.InputError, match=r"classifier\.onnx is missing"):
        osr_runtime.load(folder)
    with pytest.raises(osr_runtime.InputError, match=r"classifier\.json is missing"):
        osr_runtime.load(folder / "detectors")


def test_graphs_follow_new_thresholds(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(OTHERS):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(255 - image[..., 0] // 2).save(tmp_path / "photos" / f"{number}.png")
    asked = ["recalibrate", str(exported), "photos", "--out", "renewed", "--accept", "0.8"]
    assert cli.main(asked) == 0
    renewed, before = osr.load("renewed"), osr.load(exported)
    assert renewed.threshold() != before.threshold()
    images = np.concatenate([OTHERS, 250 - OTHERS // 2])
    expected = renewed.predict(images)
    assert expected.labels != before.predict(images).labels
    assert_same(osr_runtime.load("renewed").predict(images), expected)
    session = onnxruntime.InferenceSession("renewed/classifier.onnx")
    assert [label == "unknown" for label in expected.labels] == (
        session.run(["label"], {"images": images})[0] < 0
    ).tolist()
    said = {"classifier.json": ""}
    torch.export.load("renewed/classifier.pt2", extra_files=said)
    assert json.loads(json.loads(said["classifier.json"])["threshold"])["value"] == renewed.threshold()


class Recorder:
    """Stands for a session: keeps what it is given, and says the same of every image."""

    def __init__(self, score):
        self.score, self.given = score, []

    def run(self, _names, given):
        self.given.append(given["images"])
        count = len(given["images"])
        return np.full(count, self.score), np.full((count, 2), 0.5, np.float32), np.zeros(count, np.int64)


@pytest.mark.parametrize("score", [0.0, np.nan])
def test_grey_images_are_repeated_and_no_score_without_a_number_is_told(score):
    known = Known(Threshold(1.0, "acceptance", 0.9, 0.9, 5), np.zeros(5), None)
    session, draws = Recorder(score), np.random.default_rng(0)
    classifier = osr_runtime.OnnxClassifier(
        session, ("a", "b"), "energy", known, Square(6, "bilinear", None), channels=3, batch_size=2
    )
    images = [draws.integers(0, 256, (4, 5, channels), dtype=np.uint8) for channels in (1, 3, 1, 1)]
    if np.isnan(score):
        with pytest.raises(osr_runtime.InputError, match="energy gives nan for image 0"):
            classifier.judge(images)
        return
    assert classifier.judge(images).labels == ("a",) * 4
    assert [batch.shape for batch in session.given] == [(2, 4, 5, 3), (1, 4, 5, 3), (1, 4, 5, 3)]
    assert_array_equal(session.given[0], np.repeat(np.stack([images[0], images[2]]), 3, axis=3))


def test_the_command_of_the_runtime_writes_the_table_of_osr_predict(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, image in zip(("a.png", "d.png"), OTHERS, strict=False):
        Image.fromarray(image[..., 0]).save(name)
    Path("b.png").write_bytes(b"no image")
    Path("c.png").write_bytes(Path("a.png").read_bytes()[:60])
    asked = ["a.png", "b.png", "c.png", "d.png", "--accept", "0.9"]
    assert runtime_main(["predict", str(exported), *asked]) == 1
    said = capsys.readouterr()
    assert cli.main(["predict", *asked, "--model", str(exported), "--workers", "0"]) == 1
    expected = capsys.readouterr().out
    assert said.out.splitlines()[0] == expected.splitlines()[0]
    for found, row in zip(*map(csv.DictReader, map(io.StringIO, (said.out, expected))), strict=True):
        for column in row:
            if found[column] != row[column]:
                assert float(found[column]) == pytest.approx(float(row[column]), rel=1e-3)
        assert (found["label"] == "") == (found["file"] in ("b.png", "c.png")) == (found["reason"] != "")
        assert found["reason"] in said.err
    assert runtime_main(["predict", str(exported), "a.png"]) == 0
    capsys.readouterr()
    for wrong, sentence in (("nowhere.png", "nowhere.png does not exist."), ("--accept=2", "accept is 2.0")):
        assert runtime_main(["predict", str(exported), "a.png", wrong]) == 1
        assert capsys.readouterr().err.startswith(f"ERROR: {sentence}")


def test_the_runtime_needs_no_torch(exported):
    heavy = ("torch", "osr", "scipy", "pydantic", "safetensors", "onnx")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({heavy}))\n"
        "import osr_runtime, numpy\n"
        "found = osr_runtime.load(sys.argv[1]).predict(numpy.zeros((2, 9, 8, 1), numpy.uint8))\n"
        "print(len(found.labels), end='')"
    )
    command = [sys.executable, "-c", program, exported]
    said = subprocess.run(command, cwd=ROOT / "runtime", capture_output=True, text=True, check=True)
    assert said.stdout == "2"


def test_what_both_have_is_written_once(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "runtime")
    import copies

    texts = copies.copies()
    for name, text in texts.items():
        assert (copies.TARGET / name).read_text() == text, name
        assert "torch" not in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)
    monkeypatch.setattr(copies, "TARGET", tmp_path / "shared")
    for _ in range(2):
        copies.write_copies()
        assert {file.name: file.read_text() for file in copies.TARGET.iterdir()} == texts
        (copies.TARGET / "errors.py").write_text("old")
        (copies.TARGET / "dropped.py").write_text("old")


def test_what_has_no_graph_is_refused_by_name(network, fitted, project, monkeypatch, capsys):  # noqa: F811
    odin = make("odin")
    for detector in (odin, Ensemble(members=(make("energy"), odin))):
        with pytest.raises(InputError, match=f"{detector.name} has no graph: odin needs the gradient"):
            graph.check_recordable(detector)
    with pytest.raises(InputError, match="rotpred has no graph: rotpred needs the network four times"):
        graph.check_recordable(make("rotpred"))
    monkeypatch.setattr(graph, "MAX_BANK", 1000)
    with pytest.raises(InputError, match=r"knn holds 2,\d{3} numbers, but a graph may hold 1,000: lower det"):
        graph_files.record(parts_of(network, fitted["knn"]), "knn")
    parts = parts_of(network, fitted["energy"])
    monkeypatch.setattr(network, "computing", Computing(in_bfloat16=True))
    with pytest.raises(InputError, match="The network computes in bfloat16"):
        graph_files.record(parts, "energy")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.chdir(project)
    assert cli.main(["export", "other", "--onnx"]) == 1
    assert "--onnx needs onnxscript: install `osr[onnx]`" in capsys.readouterr().err
    assert not Path("other").exists()
