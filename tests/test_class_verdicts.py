"""A classifier with a threshold for each predicted class: everywhere it judges as stage evaluate counts."""

import csv
import json
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from extracted import CPU, build, split_of_images
from numpy.testing import assert_array_equal
from PIL import Image
from tampering import rewrite
from test_predict import exportable, run  # noqa: F401 (fixtures)

import osr
from osr.data.batches import ArrayImages
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.inference.judgement import Decision
from osr.inference.recalibration import new_thresholds
from osr.metrics.threshold_files import PREDICTION, load_thresholds, save_thresholds
from osr.metrics.thresholds import conformal_p_values, fit_class_thresholds
from osr.stored.arrays import read_arrays, write_arrays
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.workspace.stages import THRESHOLDS, VAL_SCORES

NAMES = ("a", "b", "c")
KNOWN, NEW = (
    np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1), dtype=np.uint8)
    for seed, count in ((5, 240), (6, 60))
)
TARGET = 0.6
TYPE = {"Content-Type": "image/png"}


def outputs_of(network, images):
    rows = np.arange(len(images))
    data = ArrayImages(images, rows, torch.zeros(len(images), dtype=torch.int64))
    return extract(network, data, index=rows, batch_size=64, device=CPU, title="test")


@pytest.fixture(scope="module")
def model():
    """A network that predicts each class about as often."""
    torch.set_num_threads(1)
    made = build()
    with torch.no_grad():
        made.head.bias -= torch.from_numpy(outputs_of(made, KNOWN).logits).mean(0)
    made.made_from = Origin(split=split_of_images().digest)
    return made


@pytest.fixture
def fits(exportable, model):  # noqa: ARG001, F811 (the run must be there)
    """The run of test_predict with thresholds per class, from other validation images."""
    from osr.detectors.registry import load_detector
    from pipeline.workspace.stages import DETECTORS

    stored, outputs = load_thresholds(THRESHOLDS), outputs_of(model, KNOWN)
    scores = {name: load_detector(DETECTORS / f"{name}.safetensors").score(outputs) for name in stored.of}
    made = {
        name: fit_class_thresholds(values, outputs.predictions, class_names=NAMES, target_acceptance=TARGET)
        for name, values in scores.items()
    }
    digest = save_thresholds(THRESHOLDS, made, stored.detectors, stored.made_from)
    made_from = outputs.made_from.model_copy(update={"thresholds": digest})
    write_arrays(VAL_SCORES, "validation scores", {}, made_from, scores | {PREDICTION: outputs.predictions})
    return made


def expected(found, theta):
    """The labels that evaluate's rule gives: each image at the threshold of its predicted class."""
    limits = np.broadcast_to(theta, 3)[found.predictions]
    names = np.array(NAMES)[found.predictions]
    return tuple(np.where(found.scores <= limits, names, "unknown").tolist())


def check_matters(found, fit):
    """The classes' thresholds differ, and one for all would judge otherwise."""
    assert len(set(fit.per_class)) == 3
    assert expected(found, fit.per_class) != expected(found, fit.value)
    assert 5 < found.labels.count("unknown") < 55


def test_a_folder_judges_as_evaluate_counts(fits):
    assert cli.main(["export", "out"]) == 0
    classifier = osr.load("out")
    for name, fit in fits.items():
        found = classifier.predict(NEW, detector=name)
        check_matters(found, fit)
        assert found.labels == expected(found, fit.per_class)
        # p-values are among all known images, and so is a decision by them.
        assert_array_equal(found.p_values, conformal_p_values(classifier.scores[name], found.scores))
        by_p = classifier.predict(NEW, detector=name, p_value=0.3).labels
        assert [label == "unknown" for label in by_p] == (found.p_values <= 0.3).tolist()
        assert classifier.expected_rejection(Decision(name)) == pytest.approx(1 - TARGET)
        wider = fit_class_thresholds(
            classifier.scores[name], classifier.predictions, class_names=NAMES, target_acceptance=0.9
        )
        assert classifier.predict(NEW, detector=name, accept=0.9).labels == expected(found, wider.per_class)
    theta = fits["maxlogit"].per_class
    found = classifier.predict(NEW, threshold=theta)
    assert found.labels == classifier.predict(NEW).labels
    assert classifier.predict(NEW, threshold=theta[1]).labels == expected(found, theta[1])
    limits = np.array(theta)[classifier.predictions]
    share = np.mean(classifier.scores["maxlogit"] > limits)
    assert classifier.expected_rejection(Decision(None, theta)) == share
    for asked, told in (
        (
            {"threshold": theta[:2]},
            "threshold is 2 numbers, but must be one number, or 3, one for each class",
        ),
        ({"threshold": (0.0, 1.0, float("nan"))}, "threshold is nan"),
        ({"accept": 1.0}, "Thresholds per class accept a share above 0 and below 1"),
        (
            {"accept": 0.999},
            "are predicted as 'a', and a threshold per class that accepts 0.999 .* needs 999",
        ),
    ):
        with pytest.raises(InputError, match=told):
            classifier.predict(NEW, **asked)
    card = Path("out/README.md").read_text()
    assert f"{min(theta):.6g} to {max(theta):.6g}, one for each predicted class, by the rule" in card


def test_the_command_the_monitor_and_the_recalibration(fits, capsys):
    for number, image in enumerate(NEW):
        Image.fromarray(image[..., 0]).save(f"new{number:02}.png")
    files = sorted(map(str, Path().glob("new*.png")))
    assert cli.main(["predict", *files, "--output", "v.csv", "--detector", "maxlogit"]) == 0
    assert cli.main(["export", "out"]) == 0
    assert cli.main(["predict", *files, "--model", "out", "--output", "w.csv"]) == 0
    classifier = osr.load("out")
    found = classifier.predict(NEW)
    for file in ("v.csv", "w.csv"):
        rows = list(csv.DictReader(Path(file).read_text().splitlines()))
        assert tuple(row["label"] for row in rows) == expected(found, fits["maxlogit"].per_class)
    capsys.readouterr()
    assert cli.main(["monitor", "w.csv", "--model", "out", "--format", "json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["rejected"] == found.labels.count("unknown")
    # A row that no threshold of its class can have made.
    top = max((row for row in rows if row["label"] == "unknown"), key=lambda row: float(row["score"]))
    rows[rows.index(top)] = {**top, "label": top["nearest"]}
    with Path("x.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(top))
        writer.writeheader()
        writer.writerows(rows)
    assert cli.main(["monitor", "x.csv", "--model", "out"]) == 1
    assert "one threshold decides on all rows" in capsys.readouterr().err
    Path("photos").mkdir()
    for number, image in enumerate(KNOWN[::-1][:150]):
        Image.fromarray(image[..., 0]).save(f"photos/{number:03}.png")
    for rule in ([], ["--rule", "conformal"], ["--rule", "conformal_per_class", "--accept", "0.8"]):
        shutil.rmtree("again", ignore_errors=True)
        assert cli.main(["recalibrate", "out", "photos", "--out", "again", *rule]) == 0
        again = osr.load("again")
        judged = classifier.predict(KNOWN[::-1][:150])
        wanted = new_thresholds(
            {"maxlogit": fits["maxlogit"]},
            {"maxlogit": judged.scores},
            predictions=judged.predictions,
            class_names=NAMES,
            rule=rule[1] if rule else None,
            accept=0.8 if "0.8" in rule else None,
        )["maxlogit"]
        assert again.parts.detectors["maxlogit"][1] == wanted
        assert again.predict(NEW).labels == expected(found, wanted.theta)
        assert (again.predictions is None) == ("conformal" in rule)


@pytest.mark.usefixtures("fits")
def test_a_file_without_the_predicted_classes_or_of_other_classes_is_refused():
    header, arrays = read_arrays(VAL_SCORES, "validation scores")
    held = arrays.pop(PREDICTION)
    write_arrays(VAL_SCORES, "validation scores", {}, header.made_from, arrays)
    assert cli.main(["export", "out"]) == 0
    with pytest.raises(InputError, match="it holds no prediction of the images, which thresholds per class"):
        osr.load("out")
    write_arrays(VAL_SCORES, "validation scores", {}, header.made_from, {**arrays, PREDICTION: held})
    rewrite(THRESHOLDS, lambda content: content["maxlogit"].update(per_class=[0.0, 1.0]))
    with pytest.raises(InputError, match=r"it has thresholds of 2 classes, .* is of 3"):
        cli_export("more")


def cli_export(name):
    from osr.params import load_params
    from pipeline.serving.export import export

    export(Path(name), load_params(Path("params.yaml")))


def test_http_and_mlflow(fits):
    from fastapi.testclient import TestClient

    from pipeline.serving.service import create_app

    with warnings.catch_warnings(action="ignore"):  # of what MLflow imports of its own
        from pipeline.serving.served_model import Judge

    assert cli.main(["export", "out"]) == 0
    classifier, theta = osr.load("out"), fits["maxlogit"].per_class
    wanted = classifier.predict(NEW).labels
    judge = Judge()
    judge.classifier = classifier
    assert tuple(row["label"] for row in judge.predict(NEW)) == wanted
    # MLflow hands over the default of the signature: one number for each class.
    assert tuple(row["label"] for row in judge.predict(NEW, {"threshold": np.array(theta)})) == wanted
    image = Path("one.png")
    Image.fromarray(NEW[0, ..., 0]).save(image)
    with TestClient(create_app(classifier)) as client:
        said = client.post("/predict", content=image.read_bytes(), headers=TYPE).json()
        assert said["verdicts"][0]["label"] == wanted[0]
        scores = client.get("/scores").json()
        assert scores["threshold"] is None
        assert scores["thresholds"] == dict(zip(NAMES, theta, strict=True))
        assert client.get("/scores?threshold=0.5").json()["threshold"] == 0.5


def test_the_graph_and_the_runtime_say_the_same(fits):
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: osr[onnx]")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: osr[onnx]")
    import osr_runtime

    assert cli.main(["export", "out", "--onnx", "--torch-export"]) == 0
    classifier, fit = osr.load("out"), fits["maxlogit"]
    found = classifier.predict(NEW)
    session = onnxruntime.InferenceSession("out/classifier.onnx", providers=["CPUExecutionProvider"])
    codes = np.where(np.array(found.labels) == "unknown", -1, found.predictions)
    assert_array_equal(session.run(["label"], {"images": NEW})[0], codes)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["threshold"]) == json.loads(json.dumps(asdict(fit)))
    every = session.run(["label"], {"images": NEW, "threshold": np.full(3, np.inf)})[0]
    assert_array_equal(every, found.predictions)
    program = torch.export.load("out/classifier.pt2").module()
    assert_array_equal(program(torch.from_numpy(NEW), torch.tensor(fit.per_class))["label"], codes)
    runtime = osr_runtime.load("out")
    for asked in ({}, {"accept": 0.8}, {"threshold": fit.per_class[0]}, {"threshold": fit.per_class}):
        assert runtime.predict(NEW, **asked).labels == classifier.predict(NEW, **asked).labels
    with pytest.raises(ValueError, match="threshold is 2 numbers, but must be one number, or 3"):
        runtime.predict(NEW, threshold=fit.per_class[:2])
