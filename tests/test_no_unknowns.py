"""A run without unknown images: what stage evaluate and stage plot make of it, and where it says estimate."""

import csv
import json
import re
from pathlib import Path

import finished_run
import numpy as np
import pytest
from recorded_run import record
from ruamel.yaml import YAML

from osr.errors import InputError
from osr.metrics.bootstrap import known_risk_intervals
from osr.metrics.groups import Groups
from osr.metrics.risk import RISKS
from osr.outputs import Outputs
from osr.params import check_params
from pipeline.cli import make_parser
from pipeline.comparing import compare
from pipeline.plot import headline, plot, write_tables
from pipeline.report import outcome
from pipeline.report.judge import choose_judge, judge_of
from pipeline.report.leaderboard import columns
from pipeline.report.page import write_report
from pipeline.report.run_files import RunFiles
from pipeline.report.verdicts import retrain_command, unfit, verdicts
from pipeline.serving import card
from pipeline.tracking.stage_run import Row
from pipeline.workspace import stages
from pipeline.workspace.files import read_json, write_json

ROOT = Path(__file__).parents[1]


def params_of(**evaluate):
    content = finished_run.params_of(ROOT).model_dump(mode="json")
    content["split"] |= {"protocol": "explicit"}
    content["dataset"] |= {"name": "folder", "root": "..", "folder": "my <pets>"}
    content["evaluate"] |= evaluate
    content["plot"] |= {"vector": "none", "tsne_images": 60}
    return check_params(content, source="params.yaml")


PARAMS = params_of()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("known")
    with pytest.MonkeyPatch.context() as patch:
        finished_run.make(root, patch, params=PARAMS, unknowns=False)
        write_json(stages.STAGES["plot"].metrics, plot(PARAMS, Row()))
        with (root / "params.yaml").open("w") as file:
            YAML().dump(PARAMS.model_dump(mode="json"), file)
    return root


@pytest.fixture
def run(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    return RunFiles(PARAMS)


def test_what_needs_unknown_images_is_an_estimate_by_its_name_or_missing(run):
    metrics = run.metrics
    assert not {"auroc", "auoscr", "unknown_rejection", "prevalence", "oracle_unknown_rejection"} & set(
        metrics
    )
    assert {"auroc", "auroc_low", "unknown_rejection", "known_acceptance"} <= set(metrics["estimate"])
    assert set(metrics["estimate"]["auroc"]) == {"maxlogit", "energy"}
    assert (metrics["estimate"]["folds"], metrics["estimate"]["classes"]) == (3, 3)
    assert metrics["intervals"]["unknown_units"] == 0
    numbers = headline(run)
    assert not {"auroc", "unknown_rejection"} & set(numbers)
    assert numbers["estimate_auroc"] == metrics["estimate"]["auroc"]["maxlogit"]


def test_a_judge_is_chosen_from_known_images_alone(drawn, monkeypatch):
    """No test image is opened, and a name that the settings give is left alone."""
    monkeypatch.chdir(drawn)
    assert choose_judge(PARAMS) is None
    assert judge_of(PARAMS) == "maxlogit"
    auto = PARAMS.model_copy(update={"plot": PARAMS.plot.model_copy(update={"detector": "auto"})})
    with pytest.raises(InputError, match=r"judge\.json"):
        judge_of(auto)
    load = Outputs.load
    opened = []
    monkeypatch.setattr(Outputs, "load", lambda folder: opened.append(folder) or load(folder))
    choice = choose_judge(auto)
    assert set(opened) == {stages.TRAIN_OUTPUTS, stages.VAL_OUTPUTS}
    assert judge_of(auto) == RunFiles(auto).detector == choice.detector
    assert {entry.detector for entry in choice.ranking} == {"maxlogit", "energy"}
    assert choice.classes == 3
    assert RunFiles(auto).choice.startswith(f"{choice.detector} judges, chosen from known images alone: 3")
    assert f"judge      {choice.detector}" in outcome_of(auto, monkeypatch)
    stages.JUDGE.unlink()
    few = auto.model_copy(update={"evaluate": auto.evaluate.model_copy(update={"estimate_folds": 0})})
    with pytest.raises(InputError, match=r"can be chosen: evaluate\.estimate_folds is 0\. Name one of"):
        choose_judge(few)
    enabled = few.detectors.model_copy(update={"enabled": ("maxlogit", "ensemble")})
    trusted = few.model_copy(update={"detectors": enabled})
    assert (choose_judge(trusted).detector, judge_of(trusted)) == ("ensemble", "ensemble")
    assert RunFiles(trusted).choice.endswith("nothing could be compared: evaluate.estimate_folds is 0.")
    stages.JUDGE.unlink()


def outcome_of(params, monkeypatch):
    monkeypatch.setattr(outcome, "load_params", lambda _path: params)
    return outcome.outcome()


def test_known_numbers_are_counted(run):
    scores, theta = run.scores["score_maxlogit"], run.thresholds["maxlogit"].value
    accepted = scores <= theta
    assert run.metrics["known_acceptance"]["maxlogit"] == accepted.mean()
    assert run.metrics["selective_accuracy"]["maxlogit"] == run.outputs.correct[accepted].mean()
    assert run.metrics["closed_set"]["accuracy"] == run.outputs.correct.mean()
    for name in ("known_acceptance", "selective_accuracy"):
        low, value, high = (run.metrics[f"{name}{end}"]["maxlogit"] for end in ("_low", "", "_high"))
        assert low < value < high or value in (0, 1)


def test_risk_and_coverage_are_of_misclassified_images(run):
    scores, correct = run.scores["score_maxlogit"], run.outputs.correct
    order = np.argsort(scores)
    risk = np.cumsum(~correct[order]) / np.arange(1, len(scores) + 1)
    found = {name: run.metrics[name]["maxlogit"] for name in RISKS}
    # Trapezoids; up to the first image the risk is that of it. No two scores are alike.
    assert found["aurc"] == pytest.approx(
        (risk[0] + (risk[1:] + risk[:-1]).sum() / 2) / len(scores), abs=1e-12
    )
    assert found["risk_at_80_coverage"] == risk[int(np.ceil(0.8 * len(scores))) - 1]
    assert found["coverage_at_5_risk"] == (np.flatnonzero(risk <= 0.05).max(initial=-1) + 1) / len(scores)
    for name, value in found.items():
        assert run.metrics[f"{name}_low"]["maxlogit"] <= value <= run.metrics[f"{name}_high"]["maxlogit"]
    groups = Groups.of(np.arange(len(scores)) // 6, run.outputs.labels)
    ends = known_risk_intervals(scores, correct, replicates=50, confidence=0.95, seed=0, groups=groups)
    assert {name: interval.estimate for name, interval in ends.items()} == found
    assert all(interval.low <= interval.estimate <= interval.high for interval in ends.values())


def test_figures_that_need_unknown_images_are_left_out(drawn):
    pictures = {path.stem for path in (drawn / stages.FIGURES).glob("*.png")}
    assert {"estimate_leaderboard", "estimate_classes", "scores_maxlogit", "confusion", "tsne"} <= pictures
    assert "risk_coverage" in pictures
    assert not {"oscr", "roc", "precision_recall", "classes_unknown", "leaderboard"} & pictures
    assert not any(name.startswith("gallery_accepted") for name in pictures)
    assert "No unknown image" in (drawn / stages.CURVES / "roc" / "none.txt").read_text()
    assert (drawn / stages.LEADERBOARD / "estimate.md").is_file()
    with pytest.raises(InputError, match="No unknown image was tested"):
        columns(read_json(drawn / stages.STAGES["evaluate"].metrics))


def test_the_page_is_titled_with_the_folder_and_its_classes_and_leads_with_what_can_be_decided(drawn):
    page = (drawn / stages.REPORT).read_text()
    assert "<title>Open-set run: my &lt;pets&gt;: cat, dog &lt;b&gt;&amp;" in page
    assert "What you can decide from" in page
    assert "AUROC (estimate)" in page
    assert "which may be far off" in page
    assert "osr run -S split.protocol=random" in page


def test_the_outcome_calls_it_an_estimate(drawn, monkeypatch):
    monkeypatch.chdir(drawn)
    told = outcome.outcome()
    assert "AUROC" not in told
    assert re.search(
        r"accepted   [\d.]+% \[[\d.]+%, [\d.]+%\] +of the known test images by maxlogit, thresh", told
    )
    fit = RunFiles(PARAMS).thresholds[RunFiles(PARAMS).detector]
    assert f"aim        95% accepted            of the {fit.num_images} images for validation, which" in told
    assert "which the network has seen: it may be far off" in told
    assert "an estimate, from known classes left out" in told


def test_a_frozen_network_has_no_bound(run):
    content = PARAMS.model_dump(mode="json")
    content["model"]["backbone"] |= {"name": "resnet18", "weights": "pretrained"}
    content["train"]["regime"] = "probe"
    frozen = RunFiles(check_params(content, source="params.yaml"))
    told = " ".join(verdicts(frozen))
    assert "is an estimate" in told
    assert "may be far off" not in told
    assert "may be far off" in " ".join(verdicts(run))
    content["train"]["regime"], content["model"]["head"]["bias"] = "none", True
    told = " ".join(verdicts(RunFiles(check_params(content, source="params.yaml"))))
    assert "may be far off" in told  # somebody trained it on these classes
    assert "osr run" not in told
    assert "dataset.unknown_sources" in told


def test_plain_words_where_it_should_not_be_used(run, monkeypatch):
    metrics = json.loads(stages.STAGES["evaluate"].metrics.read_text())
    metrics["estimate"]["unknown_rejection"]["maxlogit"] = 0.12
    metrics["closed_set"]["accuracy"] = 0.53
    metrics["estimate"] |= {"accuracy": 0.5, "accuracy_of_trained_head": 0.9}
    bad = RunFiles(PARAMS)
    monkeypatch.setitem(bad.__dict__, "metrics", metrics)
    told = " ".join(verdicts(bad))
    assert "47% of the known test images are given a wrong class: do not use this as it is" in told
    assert "88% of the images of classes that were left out (an estimate) were accepted as known" in told
    assert "the trained one 90.0%" in told
    assert not [text for text in verdicts(run) if "do not use" in text]


def numbers(accuracy=0.9, **rejected):
    return {"closed_set": {"accuracy": accuracy}, "unknown_rejection": rejected}


def test_another_detector_is_named_only_where_it_rejects_clearly_more():
    (told,) = unfit(numbers(vim=0.24, knn=0.21), "knn")
    assert "79% of the unknown images were accepted as known by knn" in told
    assert "No other detector of this run rejects clearly more (at most 24%)." in told
    (told,) = unfit(numbers(vim=0.44, knn=0.21), "knn")
    assert "plot.detector: vim, which rejects 44% of them at its threshold" in told
    assert unfit(numbers(vim=0.44, knn=0.5), "knn") == []
    assert len(unfit(numbers(accuracy=0.79, knn=0.2), "knn")) == 2
    assert unfit({"closed_set": {"accuracy": 0.8}}, "knn") == []


def test_what_speaks_against_it_is_said_at_the_end_of_a_run(run, monkeypatch):
    metrics = json.loads(stages.STAGES["evaluate"].metrics.read_text())
    monkeypatch.setattr(outcome, "RunFiles", lambda _: run)
    monkeypatch.setitem(run.__dict__, "metrics", metrics)
    assert "warning" not in outcome.outcome()
    metrics["closed_set"]["accuracy"] = 0.53
    assert "  warning    47% of the known test images" in outcome.outcome()
    assert "identical images" not in outcome.outcome()
    monkeypatch.setitem(run.split.__dict__, "contradictions", [[0, 1], [2, 3]])
    assert "  warning    2 identical images are tested both as known and as unknown" in outcome.outcome()


def test_what_speaks_against_it_is_said_by_export(run, monkeypatch):
    assert card.reservations("knn") == []
    split = run.split
    monkeypatch.setitem(split.__dict__, "contradictions", [[0, 1], [2, 3]])
    monkeypatch.setattr(card.Split, "load", lambda _folder: split)
    (told,) = card.reservations("knn")
    assert told.startswith("2 identical images are tested both as known and as unknown")


def test_the_command_that_measures_it_is_valid(run):
    command = retrain_command(run)
    assert command == "osr run -S split.protocol=random -S split.num_known=2 -S split.num_unknown=1"
    content = PARAMS.model_dump(mode="json")
    content["split"] |= {"protocol": "random", "num_known": 2, "num_unknown": 1}
    check_params(content, source="params.yaml")


def test_without_an_estimate_the_reason_stands_there(tmp_path, monkeypatch):
    params = params_of(estimate_folds=0)
    finished_run.make(tmp_path, monkeypatch, params=params, unknowns=False)
    stages.FIGURES.mkdir()
    write_tables(RunFiles(params))
    write_report(RunFiles(params), stages.REPORT)
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params.model_dump(mode="json"), file)
    assert "estimate" not in read_json(stages.STAGES["evaluate"].metrics)
    for text in (stages.REPORT.read_text(), outcome.outcome(), (stages.LEADERBOARD / "none.txt").read_text()):
        assert "evaluate.estimate_folds is 0" in text


def test_compare_shows_the_estimates_by_their_name(run, capsys):
    assert run.has_unknowns is False
    record()
    status = compare.run(make_parser().parse_args(["compare", "--files", "--format", "csv"]))
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert status == 0
    told = {(row["detector"], row["metric"]): float(row["mean"]) for row in rows}
    for name in ("maxlogit", "energy"):
        for metric in ("auroc", "unknown_rejection"):
            assert told[name, f"estimate/{metric}"] == run.estimate[metric][name]
    assert not any(metric == "auroc" for _, metric in told)


def test_a_second_evaluation_says_the_same(run, monkeypatch, tmp_path):
    before = run.metrics
    finished_run.make(tmp_path, monkeypatch, params=PARAMS, unknowns=False)
    after = read_json(stages.STAGES["evaluate"].metrics)
    assert after == before
    assert RunFiles(PARAMS).scores["label"].min() >= 0
