"""What stage evaluate computes is what every way of asking says: all detectors, on the same test images."""

from __future__ import annotations

import base64
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from dvc_project import Project, clone_of_this
from PIL import Image
from safetensors.numpy import load_file
from test_service import Server

import osr
from osr.params import load_params
from pipeline.serving.bodies import Limits
from pipeline.workspace.stages import IMAGES, PARAMS, SCORES, THRESHOLDS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
AT_ONCE = 64
LIMITS = Limits(body_bytes=10**7, total_bytes=10**8, images=AT_ONCE, pixels=10**6, seconds=60.0)
MLFLOW = """
import json, sys, numpy as np
from mlflow import pyfunc, set_tracking_uri
set_tracking_uri(sys.argv[1])
model = pyfunc.load_model("models:/judge@best")
print("FOUND" + json.dumps(model.predict(np.load(sys.argv[2]))))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run of ours on the digits with every detector, exported and registered."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a clone")
    project = clone_of_this(tmp_path_factory.mktemp("answers") / "osr")
    presets = ("--preset", "digits_quick", "--preset", "all_detectors")
    project.python("pipeline.cli", "run", "evaluate", *presets)
    project.python("pipeline.cli", "export", "present", "out")
    project.python("pipeline.cli", "register", "judge", "--alias", "best")
    return project


@pytest.fixture(scope="module")
def tested(project: Project) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """The test images, what evaluate stored of them, and the names of the detectors."""
    scores = load_file(project.root / SCORES)
    names = [name.removeprefix("score_") for name in scores if name.startswith("score_")]
    assert set(names) == set(load_params(project.root / PARAMS).detectors.enabled)
    return np.load(project.root / IMAGES)[scores["index"]], scores, names


def labels(
    scores: np.ndarray, predictions: np.ndarray, threshold: float, names: tuple[str, ...]
) -> list[str]:
    pairs = zip(scores, predictions, strict=True)
    return ["unknown" if score > threshold else names[predicted] for score, predicted in pairs]


def test_the_exported_folder_repeats_evaluate_to_the_last_bit(project, tested) -> None:
    images, stored, names = tested
    classifier = osr.load(project.root / "out")
    limits = json.loads((project.root / THRESHOLDS).read_text())["content"]
    for name in names:
        found = classifier.predict(images, detector=name)
        np.testing.assert_array_equal(found.scores, stored[f"score_{name}"], err_msg=name)
        np.testing.assert_array_equal(found.predictions, stored["prediction"], err_msg=name)
        decided = labels(
            stored[f"score_{name}"], stored["prediction"], limits[name]["value"], classifier.class_names
        )
        assert list(found.labels) == decided, name


def test_http_says_the_same(project, tested) -> None:
    images, _, names = tested
    classifier = osr.load(project.root / "out")
    files = []
    for image in images[:AT_ONCE]:
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        files.append(base64.b64encode(file.getvalue()).decode())
    with Server(classifier, LIMITS) as server:
        for name in names:
            expected = classifier.predict(images[:AT_ONCE], detector=name)
            status, answer = server.ask(
                json.dumps({"images": files}), "application/json", f"?detector={name}"
            )
            assert status == 200, answer
            assert [verdict["label"] for verdict in answer["verdicts"]] == list(expected.labels)
            assert [verdict["score"] for verdict in answer["verdicts"]] == list(expected.scores)


def test_mlflow_says_the_same(project, tested, tmp_path: Path) -> None:
    images, stored, _ = tested
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "ask.py").write_text(MLFLOW)
    store = f"sqlite:///{project.root}/mlflow.db"
    said = project.run("python", str(tmp_path / "ask.py"), store, str(tmp_path / "images.npy"))
    found = json.loads(said[said.index("FOUND") + 5 :])
    detector = load_params(project.root / PARAMS).plot.detector
    assert [answer["score"] for answer in found] == list(stored[f"score_{detector}"])
    expected = osr.load(project.root / "out").predict(images)
    assert [answer["label"] for answer in found] == list(expected.labels)
