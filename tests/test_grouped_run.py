"""A run whose split has groups says everywhere that groups were drawn, and is less sure than one without."""

from pathlib import Path

import finished_run
import numpy as np
import pytest

from pipeline.report.cautions import cautions
from pipeline.report.page import write_report
from pipeline.report.run_files import RunFiles

ROOT = Path(__file__).parents[1]
PARAMS = finished_run.params_of(ROOT)
SIZE = 10  # images of a group: four groups of each class in the test part


@pytest.fixture
def run(tmp_path, monkeypatch):
    finished_run.make(tmp_path, monkeypatch, params=PARAMS, group_size=SIZE)
    return RunFiles(PARAMS)


def test_metrics_and_report_say_that_groups_were_drawn(run, tmp_path):
    assert run.metrics["intervals"] == {"by_group": 1, "known_units": 12, "unknown_units": 8}
    assert run.metrics["asked_of"]["maxlogit"] == 12
    assert run.thresholds["maxlogit"].num_images == 120
    assert len(np.unique(run.scores["group"])) == 20
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "whole groups of test images that belong together (12 of known, 8 of unknown)" in page
    assert " of the test knowns, made to accept 95% of 120 images in 12 groups for validation" in page
    found = " ".join(cautions(run))
    assert "The test images stand in 12 groups of known and 8 of unknown ones" in found
    assert "The thresholds were made from 12 groups of validation images only." in found


def test_p_values_count_groups(run):
    assert run.scores["p_value_maxlogit"].min() >= 1 / 13
