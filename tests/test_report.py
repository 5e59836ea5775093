"""Stage plot on a small finished run: its figures, its report, and what the report warns of."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import finished_run
import numpy as np
import pytest
from page_elements import Page

from osr.plots.style import styled
from pipeline.plot import headline, plot
from pipeline.report import cautions
from pipeline.report import page as report
from pipeline.report.figure_texts import TEXTS, figure_text
from pipeline.report.figures import _shifts
from pipeline.report.galleries import accepted_unknowns, rejected_knowns
from pipeline.report.page import THRESHOLD_FREE, write_report
from pipeline.report.run_files import RunFiles
from pipeline.tracking.stage_run import Row
from pipeline.workspace import stages

ROOT = Path(__file__).parents[1]
PARAMS = finished_run.params_of(ROOT)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a run whose stage plot has run."""
    root = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        finished_run.make(root, patch, params=PARAMS, duplicates=True)
        plot(PARAMS, Row())
    return root


@pytest.fixture
def run(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    return RunFiles(PARAMS)


@pytest.fixture
def page(drawn):
    return (drawn / stages.REPORT).read_text()


def test_every_figure_has_a_vector_file_and_words(drawn):
    pictures = {path.stem for path in (drawn / stages.FIGURES).glob("*.png")}
    assert {path.stem for path in (drawn / stages.VECTOR).glob("*.pdf")} == pictures
    galleries = {"gallery_accepted_unknowns", "gallery_rejected_knowns"}
    scores = {"scores_maxlogit", "scores_energy"}
    assert pictures - galleries - scores <= set(TEXTS)
    assert (
        galleries | scores | {"classes_known", "classes_unknown", "class_scores", "leaderboard"} <= pictures
    )


def test_a_page_without_umap_says_so(page):
    assert ("There is no UMAP figure" in page) != ("Features, UMAP" in page)


def test_the_page_stands_alone(page):
    parsed = Page(page)
    assert parsed.all("script") == [{}]  # written in the page, and of use in a frame alone
    assert not parsed.all("link")
    assert not re.search(r"url\(|@import", page)
    for image in parsed.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
    assert all(anchor["href"].startswith("#") for anchor in parsed.all("a"))


def test_the_page_can_be_read_without_seeing_it(page):
    parsed = Page(page)
    assert parsed.all("html") == [{"lang": "en"}]
    assert parsed.all("meta")[1]["name"] == "viewport"
    assert all(len(image["alt"]) > 10 for image in parsed.all("img"))
    levels = [int(tag[1]) for tag, _ in parsed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {anchor["href"][1:] for anchor in parsed.all("a")} <= set(ids)
    named = {attributes.get("aria-labelledby") for _, attributes in parsed.elements} - {None}
    assert named <= set(ids)
    assert len(parsed.all("table")) == len(parsed.all("caption")) >= 4
    assert all(cell.get("scope") in ("col", "row") for cell in parsed.all("th"))


def test_names_of_classes_are_text_and_no_markup(page):
    assert "<b>" not in page
    assert "dog &lt;b&gt;&amp;&#34;" in page


def test_the_page_says_what_was_run_and_the_numbers(page, run):
    assert run.split.digest in page
    assert run.split.test_digest in page
    assert "accepted mostly as" in page
    value, low, high = (run.metrics[f"auroc{end}"]["energy"] for end in ("", "_low", "_high"))
    assert f'{value:.3f} <span class="interval">[{low:.3f}, {high:.3f}]</span>' in page
    for row in run.unknown_classes:
        assert f"<td>{row['auroc']:.3f}</td><td>{100 * row['accepted']:.1f} %</td>" in page


def test_the_headline_is_that_of_the_detector_that_judges(run):
    found = headline(run)
    assert found["auroc"] == run.metrics["auroc"]["maxlogit"]
    assert found["unknown_rejection"] == run.metrics["unknown_rejection"]["maxlogit"]
    assert found["accuracy"] == run.metrics["closed_set"]["accuracy"]


@pytest.mark.ci
def test_the_same_run_gives_the_same_bytes_and_needs_no_pytorch(drawn, tmp_path, monkeypatch):
    """PyTorch takes seconds to import, and with it one process alone would draw (`figures._may_fork`)."""
    finished_run.make(tmp_path, monkeypatch, params=PARAMS, duplicates=True)
    (tmp_path / "settings.json").write_text(PARAMS.model_dump_json())
    program = """
import json, sys
from osr.params import check_params
from osr.plots.style import styled
from pipeline.plot import plot
from pipeline.tracking.stage_run import Row
plot(check_params(json.load(open("settings.json")), source="test"), Row())
assert "torch" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)

    def files(root):
        folders = (stages.FIGURES, stages.VECTOR, stages.CURVES)
        found = [path.relative_to(root) for f in folders for path in (root / f).rglob("*.*")]
        paths = [stages.REPORT, *found]
        return {path: hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths}

    assert files(drawn) == files(tmp_path)


def test_galleries_hold_the_worst_mistakes_in_order(run):
    scores, labels = run.scores["score_maxlogit"], run.outputs.labels
    picks = accepted_unknowns(run, 5)
    accepted = np.sort(scores[(labels < 0) & (scores <= run.thresholds[run.detector].value)])
    assert [pick.score for pick in picks] == accepted[:5].tolist()
    names = finished_run.NAMES
    for pick in picks:
        assert pick.truth == names[run.split.targets[pick.row]]
        assert pick.truth in ("fox", "eel")
        (position,) = np.flatnonzero(run.outputs.index == pick.row)
        assert pick.predicted == names[run.outputs.predictions[position]]
    rejected = np.sort(scores[(labels >= 0) & (scores > run.thresholds[run.detector].value)])[::-1]
    picks = rejected_knowns(run, 1000)
    assert [pick.score for pick in picks] == rejected.tolist()
    assert all(pick.known and pick.truth == names[run.split.targets[pick.row]] for pick in picks)


def test_each_unknown_set_has_its_row(run, tmp_path):
    ends = {"": 0.625, "_low": 0.5, "_high": 0.75}
    numbers = {f"{name}{end}": {"maxlogit": value} for name in THRESHOLD_FREE for end, value in ends.items()}
    numbers["unknown_rejection"] = {"maxlogit": 0.25}
    vars(run)["metrics"] = run.metrics | {"sources": {"held_out": numbers, "far <i>": numbers}}
    write_report(run, tmp_path / "report.html")
    value = '<td>0.625 <span class="interval">[0.500, 0.750]</span></td>'
    row = f'<th scope="row">far &lt;i&gt;</th><td>0</td>{3 * value}<td>0.250</td>'
    assert row in (tmp_path / "report.html").read_text()


def test_many_unknown_classes_are_one_click_away(run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HARDEST", 1)
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    shown, hidden = page.split("<summary>The other 1 unknown classes</summary>")
    hardest, other = (row["name"] for row in run.unknown_classes)
    assert "The 1 hardest of 2 unknown classes" in shown
    assert f'<th scope="row">{hardest}</th>' in shown
    assert f'<th scope="row">{other}</th>' in hidden


def test_a_run_without_mistakes_says_so(run, tmp_path):
    infinite = {name: replace(fit, value=1e9) for name, fit in run.thresholds.items()}
    vars(run)["thresholds"] = infinite
    assert rejected_knowns(run, 5) == []
    write_report(run, tmp_path / "report.html")
    assert "None: every known test image is accepted." in (tmp_path / "report.html").read_text()


def test_warnings_name_leaks_and_small_classes(run, monkeypatch):
    assert [text for text in cautions.cautions(run) if "Identical images in several parts: 1," in text]
    assert not [text for text in cautions.cautions(run) if "fewer than" in text]
    monkeypatch.setattr(cautions, "FEW_TEST_IMAGES", 41)
    monkeypatch.setattr(cautions, "FEW_VALIDATION_IMAGES", 121)
    found = cautions.cautions(run)
    assert [text for text in found if "cat (40)" in text and "eel (40)" in text]
    assert "The thresholds were made from 120 validation images only." in found


def test_warnings_name_calibration_thresholds_and_chance(run):
    metrics = json.loads(json.dumps(run.metrics))
    metrics["closed_set"] |= {"ece_before": 0.01, "ece_after": 0.08, "nll_before": 0.2, "nll_after": 0.3}
    metrics["known_acceptance"]["energy"] = 0.7
    metrics["auroc_high"]["energy"] = 0.4
    vars(run)["metrics"] = metrics
    found = " ".join(cautions.cautions(run))
    assert "0.010 before, 0.080 after" in found
    assert "0.200 before, 0.300 after" in found
    assert "energy accepts 70.0% of the test knowns, where validation images foretell 8" in found
    assert "maxlogit accepts" not in found
    assert "(AUROC below 0.5): energy." in found
    fit = run.calibration
    vars(run)["calibration"] = replace(fit, not_used="there is one image")
    assert "temperature is not used, because there is one image." in " ".join(cautions.cautions(run))
    bound = "the NLL still falls at the highest temperature, 100"
    vars(run)["calibration"] = replace(fit, at_bound=bound)
    assert f"The calibration is at its bound, not the optimum: {bound}." in cautions.cautions(run)
    vars(run)["calibration"] = replace(fit, asked="none")
    assert "Probabilities are not calibrated: calibrate.method is none." in cautions.cautions(run)


def test_what_a_threshold_was_asked_and_what_it_got(run):
    """The interval of the test share decides, whether the few validation images explain the gap or not."""
    known = run.outputs.labels >= 0
    accepted = int((run.scores["score_maxlogit"][known] <= run.thresholds[run.detector].value).sum())
    low, high = run.ends_of_acceptance("maxlogit")
    assert low < run.metrics["known_acceptance"]["maxlogit"] == accepted / known.sum() < high
    assert run.metrics["asked_acceptance"]["maxlogit"] == 0.95
    assert run.metrics["asked_of"]["maxlogit"] == run.thresholds["maxlogit"].num_images == 120
    told = run.asked_and_got("maxlogit")
    assert told.startswith("accepts ")
    assert told.endswith(", made to accept 95% of 120 images for validation")
    assert f"[{low:.1%}, {high:.1%}] of the test knowns" in told
    for share, words in (
        (0.9, "another share of new known images than they were made to: maxlogit"),
        (0.7, "beyond chance"),
    ):
        metrics = json.loads(json.dumps(run.metrics))
        for end, gap in (("", 0), ("_low", -0.02), ("_high", 0.02)):
            metrics[f"known_acceptance{end}"]["maxlogit"] = share + gap
        vars(run)["metrics"] = metrics
        [found] = [text for text in cautions.cautions(run) if words in text]
        assert f"maxlogit accepts {share:.1%}" in found


def test_words_for_a_figure_without_any():
    assert figure_text("some_figure").title == "Some figure"
    assert figure_text("scores_msp").title == "Scores of msp"


def test_risk_and_costs_stand_on_the_page(run, page):
    text = re.sub(r"<[^>]+>", " ", page)
    for metric in ("aurc", "augrc", "risk_at_80_coverage", "coverage_at_5_risk"):
        value, low, high = (run.metrics[f"{metric}{end}"]["energy"] for end in ("", "_low", "_high"))
        assert low <= value <= high
        assert re.search(rf"{value:.3f} +\[{low:.3f}, {high:.3f}\]", text), metric
    costs = run.metrics["costs"]
    assert costs["prevalence"] == pytest.approx(0.4)
    assert f"{costs['expected_cost_at_cost_threshold']['energy']:.3f}" in text
    assert f"{costs['oracle_expected_cost']['energy']:.3f}" in text
    for name in run.params.detectors.enabled:
        best = costs["oracle_expected_cost"][name]
        assert best <= min(costs["expected_cost"][name], costs["expected_cost_at_cost_threshold"][name])
        assert costs["expected_cost_low"][name] <= costs["expected_cost"][name]
        assert best <= costs["expected_cost_accepting_all"]


def test_shifted_images_have_a_table_and_a_figure(run, tmp_path):
    def numbers(share):
        ends = {end: dict.fromkeys(("maxlogit", "energy"), share) for end in ("", "_low", "_high")}
        return {
            **{f"accuracy{end}": share for end in ends},
            **{f"known_acceptance{end}": found for end, found in ends.items()},
            "auroc": {"maxlogit": 0.777, "energy": 0.5},
        }

    assert not run.shifts
    run.metrics["shifts"] = {
        "corruptions": {"noise_3": numbers(0.613), "blur_1": numbers(0.512)},
        "sources": {"phone": numbers(0.411)},
        "full_spectrum": {"auroc": {"maxlogit": 0.888, "energy": 0.5}},
    }
    assert [(row["kind"], row["severity"]) for row in run.shifts] == [("blur", 1), ("noise", 3), ("phone", 0)]
    write_report(run, tmp_path / "report.html")
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text())
    for told in ("known, noise", "known, phone", "unknown, held_out", "0.613", "0.411", "0.888"):
        assert told in text
    with styled():
        panels = _shifts(run).axes
        lines = {line.get_label(): line.get_xydata().tolist() for line in panels[1].get_lines()}
    assert lines["noise"] == [[0, run.metrics["known_acceptance"]["maxlogit"]], [3, 0.613]]
    assert set(lines) == {"noise", "blur", "unknown: held_out"}
    del run.metrics["shifts"]
