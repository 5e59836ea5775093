"""What the report says of thresholds that accept more or fewer known images."""

from pathlib import Path

import finished_run
import numpy as np
import pytest

from pipeline.report.other_thresholds import other_thresholds, to_markdown
from pipeline.report.run_files import RunFiles

SHARES = [0.99, 0.95, 0.9, 0.8, 0.7]


PARAMS = finished_run.params_of(Path(__file__).parents[1])


@pytest.fixture(params=[True, False])
def run(request, tmp_path, monkeypatch):
    """A run with and one without unknown test images."""
    finished_run.make(tmp_path, monkeypatch, params=PARAMS, unknowns=request.param)
    return RunFiles(PARAMS)


def test_each_threshold_says_what_it_accepts_and_rejects(run):
    rows = other_thresholds(run)
    assert [row["asked"] for row in rows] == SHARES
    known, scores = run.scores["label"] >= 0, run.scores[f"score_{run.detector}"]
    own = next(row for row in rows if row["asked"] == run.thresholds[run.detector].target)
    assert own["threshold"] == run.thresholds[run.detector].value
    for row in rows:
        assert np.mean(run.val_scores[run.detector] <= row["threshold"]) >= row["asked"]
        assert row["accepted"] == np.mean(scores[known] <= row["threshold"])
    if run.has_unknowns:
        assert [row["rejected"] for row in rows] == [
            np.mean(scores[~known] > row["threshold"]) for row in rows
        ]
    else:
        assert own["rejected"] == pytest.approx(run.estimate["unknown_rejection"][run.detector])
    rejected = [row["rejected"] for row in rows]
    assert rejected == sorted(rejected)
    assert rejected[0] < rejected[-1]


def test_the_table_says_of_how_many_images_each_share_is(run):
    known = int((run.scores["label"] >= 0).sum())
    head, line, *rows = to_markdown(run).splitlines()
    unknown = f"{len(run.outputs) - known} test unknowns" if run.has_unknowns else "the unknowns, an estimate"
    asked = f"to accept of {len(run.val_scores[run.detector])} validation knowns"
    assert head == (
        f"| {asked} | threshold of {run.detector} | accepted of {known} test knowns | rejected of {unknown} |"
    )
    assert line == "| ---: | ---: | ---: | ---: |"
    for text, row in zip(rows, other_thresholds(run), strict=True):
        assert text.startswith(f"| {row['asked']:.0%} | ")
        assert text.endswith(f" | {row['accepted']:.1%} | {row['rejected']:.1%} |")


def test_nothing_is_said_where_nothing_is_known(run):
    if not run.has_unknowns:
        run.__dict__["estimate_file"] = {"reason": "two classes"}
        assert other_thresholds(run) == []
        assert to_markdown(run) == ""
