"""What a served classifier is asked: what cannot be judged as it is meant is refused."""

import base64
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from extracted import IMAGES, png
from mlflow.exceptions import MlflowException
from numpy.testing import assert_array_equal
from pages import check_section
from test_predict import exportable, load, model, run  # noqa: F401 (fixtures)

from osr.errors import InputError
from osr.inference import requests
from osr.inference.requests import checked_images, checked_threshold
from osr.params import load_params
from pipeline.serving.export import export
from pipeline.serving.register import INFERENCE
from pipeline.workspace.stages import PARAMS

ONE = IMAGES[:1]
IMAGES_ASKED = {
    "numbers 0..255 as uint8, int64 or lists": (ONE, "judged"),
    "floats 0..1": (ONE / 255, "inputs must be images .* of integers in 0..255 .*not float64"),
    "floats 0..255, even whole ones": (ONE * 1.0, "inputs must be images .* not float64"),
    "values above 255": (ONE.astype(int) + 200, r"inputs must lie in 0\.\.255, but go from"),
    "values below 0": (ONE.astype(int) - 200, r"inputs must lie in 0\.\.255, but go from"),
    "true and false": (ONE > 9, "inputs must be images .* not bool"),
    "one image without the axis N": (ONE[0], r"of shape \(6, 6, 1\)"),
    "images of different sizes": ([[[[1]]], [[[1], [2]]]], "inputs must be images .* of one size"),
    "text": ("abc", "inputs must be images"),
    "texts that are no base64": (["no base64!"], "image 0 is no base64 of an image's file"),
    "base64 of something else than an image": (["bm8gaW1hZ2U="], "image 0 is no image that can be read"),
    "a record": ([{"a": 1}], "inputs must be images"),
    "a table with several columns": (
        pd.DataFrame({"a": [1], "b": [2]}),
        "one column of image files .* are a, b",
    ),
    "nothing": ([], r"of shape \(0,\)"),
    "colour for a grey network": (ONE.repeat(3, 3), r"image 0 must be \(H, W, 1\) uint8"),
    "more than 33,554,432 values": (np.broadcast_to(ONE[:1], (10**6, 6, 6, 1)), "at most 33,554,432"),
}
PARAMS_ASKED = {
    "threshold NaN": ({"threshold": math.nan}, "params.threshold must be a number, not nan"),
    "threshold true": ({"threshold": True}, "params.threshold must be a number, not True"),
    "threshold as text": ({"threshold": "0.5"}, "params.threshold must be a number, not '0.5'"),
    "another key": ({"thresold": 1.0}, "params may hold threshold, but hold thresold"),
}


@pytest.fixture
def served(exportable):  # noqa: ARG001, F811
    with warnings.catch_warnings(action="ignore"):  # of what MLflow imports of its own
        from pipeline.serving.served_model import OpenSetClassifier
    found = OpenSetClassifier()
    export(Path("out"), load_params(PARAMS))
    found.load_context(SimpleNamespace(artifacts={"classifier": "out"}, model_config={}))
    return found


def test_images_and_params_are_refused_or_judged_as_meant(served):
    lines = []
    expected = [record["score"] for record in served.predict(ONE)]
    assert expected == load("maxlogit", batch_size=256).predict(ONE).scores.tolist()
    for images in (ONE.astype(np.int64), ONE.tolist()):
        assert [record["score"] for record in served.predict(images)] == expected
    for what, (images, said) in IMAGES_ASKED.items():
        if said == "judged":
            lines.append(f"| {what} | a verdict |")
            continue
        with pytest.raises(MlflowException, match=said) as error:
            served.predict(images)
        assert error.value.error_code == "INVALID_PARAMETER_VALUE"  # status 400
        lines.append(f"| {what} | *{error.value.message}* |")
    for what, (params, said) in PARAMS_ASKED.items():
        with pytest.raises(MlflowException, match=said) as error:
            served.predict(ONE, params=params)
        lines.append(f"| {what} | *{error.value.message}* |")
    introduction = (
        "`pytest -n 0 tests/test_requests.py` asks these of the model that MLflow serves; refused is status\n"
        "400. What MLflow does before it asks the model is not in our hands: it drops other keys of\n"
        "`params` (with a warning in its log), reads bodies of any size, and answers JSON of 1,000 brackets\n"
        "with 500. Its server read 104 MiB of JSON for two minutes, answered 504 and kept 6 GB of memory:\n"
        "put a limit on bodies before it, or use `osr serve`, which refuses both (413, 415 or 422).\n\n"
        "| what is asked | what is said |\n|---|---|\n"
    )
    check_section("reliability.md", "What a served model is asked", introduction + "\n".join(lines))


def test_files_are_judged_as_the_classifier_judges_them(served):
    files = [png(image) for image in IMAGES]
    texts = [base64.b64encode(file).decode() for file in files]
    expected = load("maxlogit", batch_size=256).predict(IMAGES)
    shapes = (
        files,
        texts,
        np.array(texts, object),
        pd.DataFrame({"any name": texts}),
        pd.DataFrame({"image": files, "id": range(len(files))}),
    )
    for given in shapes:
        found = served.predict(given)
        assert [record["score"] for record in found] == expected.scores.tolist()
        assert [record["label"] for record in found] == list(expected.labels)


ALONE = """
import sys
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

wanted, needed = list(sys.argv[1].split(",")), set()
while wanted:
    name = canonicalize_name(wanted.pop())
    if name not in needed:
        needed.add(name)
        parts = map(Requirement, requires(name) or ())
        wanted += [part.name for part in parts if part.marker is None or part.marker.evaluate({"extra": ""})]
others = {
    module
    for module, names in packages_distributions().items()
    if not needed & set(map(canonicalize_name, names)) and module not in ("osr", "pipeline")
}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
from types import SimpleNamespace
from pipeline.serving.served_model import OpenSetClassifier
model = OpenSetClassifier()
model.load_context(SimpleNamespace(artifacts={"classifier": "out"}, model_config={}))
print(len(model.predict(np.zeros((2, 6, 6, 1), np.uint8))), "lightning_fabric" in others)
"""


@pytest.mark.usefixtures("served")
def test_its_requirements_suffice_and_it_is_loaded_without_a_word():
    """In a process that can import nothing else of what is installed here."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, ",".join(INFERENCE)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("2 True\n", "")


def test_pixels_are_those_that_were_sent():
    for dtype in (np.uint8, np.int16, np.int64, np.uint32):
        pixels = checked_images(IMAGES.astype(dtype))
        assert pixels.dtype == np.uint8
        assert_array_equal(pixels, IMAGES)
    assert checked_threshold({}) is None
    assert checked_threshold({"threshold": 2}) == 2.0
    assert requests.MAX_VALUES == 33_554_432


@pytest.mark.parametrize("threshold", [math.nan, True])
@pytest.mark.usefixtures("run")
def test_a_threshold_that_is_no_number_is_refused_in_python_too(threshold):
    with pytest.raises(InputError, match="must be a number"):
        load().predict(ONE, threshold=threshold)
