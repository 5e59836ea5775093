"""Forty photos of 12 megapixels are judged in little memory: none stands there whole for long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_image_reader import photo

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
LIMIT_GB = 1.5
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from benchmarks.measure import resident
from osr.calibration.calibrators import Temperature
from osr.detectors.registry import build_detectors
from osr.inference.classifier import OpenSetClassifier
from osr.inference.judgement import Decision
from osr.inference.parts import Parts
from osr.metrics.thresholds import Threshold
from osr.models.open_set_model import OpenSetModel
from osr.models.preprocess import ImageFormat
from osr.params import load_params
from pipeline.serving.predict import Stream
from pipeline.serving.sources import open_sources

torch.set_num_threads(1)
params = load_params(Path("params.yaml"))
backbone = params.model.backbone.model_copy(update={"name": "resnet18", "weights": "none"})
settings = params.model.model_copy(update={"backbone": backbone, "image_size": 224})
model = OpenSetModel(settings, ImageFormat(224, 3, (0.5,) * 3, (0.5,) * 3), ("a", "b"))
enabled = params.detectors.model_copy(update={"enabled": ("maxlogit",)})
parts = Parts(
    model.eval(),
    Temperature(1.0),
    {"maxlogit": (build_detectors(enabled)["maxlogit"], Threshold(0.0, "acceptance", 0.95, 0.95, 2))},
    None,
)
classifier = OpenSetClassifier(parts, {"maxlogit": np.zeros(2)}, None, detector="maxlogit", batch_size=512)
stream = Stream(
    classifier, Decision(), max_pixels=params.dataset.max_pixels
)
print(sum(len(batch) for batch, _ in stream.batches(open_sources([sys.argv[1]]))))
# Not ru_maxrss, in which the memory of the process counts, too, that started this one.
print(resident("VmHWM") / 1e9)
"""


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_forty_photos_of_12_megapixels(tmp_path: Path, mode: str) -> None:
    photo(4000, 3000).convert(mode).save(tmp_path / "0.jpg", quality=92)
    for number in range(1, 40):
        os.link(tmp_path / "0.jpg", tmp_path / f"{number}.jpg")
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path], cwd=ROOT, check=True, capture_output=True, text=True
    )
    judged, peak_gb = found.stdout.split()
    assert judged == "40"
    assert float(peak_gb) < LIMIT_GB
