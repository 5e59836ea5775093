"""The real pipeline, end to end, in a clone of this working tree: what a user types and what comes of it."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc_project import Project, commit_all, states
from ruamel.yaml import YAML

import osr
from pipeline.workspace.stages import IMAGES, STAGES

ROOT = Path(__file__).parents[1]
# Everything as shipped, but for what only takes time.
QUICK = {
    "train.epochs": 3,
    "train.warmup_epochs": 1,
    "evaluate.bootstrap_replicates": 100,
    "evaluate.shifts.corruptions": ["noise"],
    "evaluate.shifts.severities": [1, 5],
    "plot.tsne_images": 100,
    "plot.dpi": 60,
    "plot.gallery_images": 5,
    "plot.vector": "none",  # half of the time of stage plot; tests/test_report.py draws them
}


class Clone(Project):
    """A clone of this working tree, and the commands a user gives in it."""

    def repro(self):
        """Names of the stages that ran."""
        return re.findall(r"Running stage '(.*)'", self.dvc("repro"))

    def set(self, key, value):
        path, yaml = self.root / "params.yaml", YAML()
        content = yaml.load(path)
        *sections, last = key.split(".")
        target = content
        for section in sections:
            target = target[section]
        target[last] = value
        yaml.dump(content, path)

    def results(self):
        """Digest of every result file."""
        return {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("artifacts", "figures", "metrics")
            for path in (self.root / folder).rglob("*")
            if path.is_file()
        }

    def metric(self, stage):
        return json.loads((self.root / STAGES[stage].metrics).read_text())


def clone(root):
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    made = Clone(root)
    for key, value in QUICK.items():
        made.set(key, value)
    commit_all(made, "quick settings")
    return made


def assert_complete(row):
    """The row says all there is to say of one execution."""
    assert row.info.status == "FINISHED"
    assert set(states(row).values()) <= {"done", "cached"}
    assert set(states(row)) == set(STAGES)
    metrics = {"train/loss", "val/accuracy", "best/epoch", "calibration/temperature", "auroc/maxlogit"}
    assert metrics <= set(row.data.metrics)
    assert {"train.lr", "split.trial", "detectors.openmax.tail_size"} <= set(row.data.params)
    assert row.data.tags["osr.split.digest"]
    assert row.data.tags["osr.checkpoint"].startswith("runs:/")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone in which `dvc repro` has run once; the tests below take it in turn."""
    made = clone(tmp_path_factory.mktemp("project"))
    said = made.dvc("repro")
    assert re.findall(r"Running stage '(.*)'", said) == list(STAGES)
    assert "  report     artifacts/report.html\n" in said
    assert "INFO osr: train: epoch 3, loss " in said, "without a terminal each epoch leaves a line"
    assert "what dvc.lock records" not in said, "nothing was there before"
    return made


def test_first_run_leaves_results_figures_and_one_row(project):
    (row,) = project.rows()
    assert_complete(row)
    assert {"speed/images_per_s", "system/cpu_utilization_percentage"} <= set(row.data.metrics)
    figures = {"oscr", "oscr_log", "roc", "precision_recall", "reliability", "confusion", "tsne", "training"}
    figures |= {"risk_coverage", "shifts"}
    figures |= {"classes_known", "classes_unknown", "class_scores", "gallery_accepted_unknowns"}
    figures |= {f"scores_{name}" for name in ("msp", "maxlogit", "energy", "mav", "openmax")}
    assert {f"figures/{name}.png" for name in figures} <= set(project.artifacts(row, "figures"))
    assert "figures/leaderboard.png" in project.artifacts(row, "figures")
    tables = {
        f"artifacts/leaderboard/{name}" for name in ("leaderboard.csv", "leaderboard.md", "thresholds.md")
    }
    assert tables == set(project.artifacts(row, "artifacts/leaderboard"))
    assert "artifacts/model/model.safetensors" in project.artifacts(row, "artifacts/model")
    assert "artifacts/report.html" in project.artifacts(row, "artifacts")
    metrics = project.metric("evaluate")
    assert metrics["auroc_low"]["maxlogit"] < metrics["auroc"]["maxlogit"] < metrics["auroc_high"]["maxlogit"]
    assert metrics["auroc"]["maxlogit"] > 0.6
    assert metrics["closed_set"]["accuracy"] > 0.6
    shifted = metrics["shifts"]["corruptions"]
    assert shifted["noise_1"]["accuracy"] > max(0.6, shifted["noise_5"]["accuracy"])
    assert metrics["ccr_at_fpr_0.001"]["msp"] is None  # 1/720 is the smallest FPR that 720 unknowns can show
    # The threshold comes from validation knowns and accepts there what it promises.
    for share in project.metric("fit-openmax")["val_known_acceptance"].values():
        assert 0.95 <= share < 0.98


def test_second_run_does_nothing(project):
    before = len(project.rows())
    assert project.repro() == []
    assert len(project.rows()) == before


LOAD = """
import json, sys, numpy as np
from mlflow import pyfunc, set_tracking_uri
set_tracking_uri(sys.argv[1])
model = pyfunc.load_model("models:/judge@best")
images = np.load(sys.argv[2])[:300]
found = {"fitted": model.predict(images), "none": model.predict(images, params={"threshold": -1e9})}
print("FOUND" + json.dumps(found))
"""


@pytest.mark.parametrize(
    ("edited", "stale"),
    [
        ("pipeline/tracking/store.py", set()),
        ("pipeline/comparing/compare.py", set()),
        ("pipeline/cli.py", set()),
        ("osr/params.py", {"plot"}),
        ("pipeline/report/page.py", {"plot"}),
        ("osr/detectors/base.py", {"calibrate", "fit-openmax", "evaluate", "plot"}),
        ("osr/losses/base.py", {"train", "evaluate", "plot"}),
    ],
)
def test_an_edit_makes_stale_what_it_can_change(project, edited, stale):
    path = project.root / edited
    before = path.read_bytes()
    path.write_bytes(before + b"# edited\n")
    status = json.loads(project.dvc("status", "--json"))
    path.write_bytes(before)
    assert set(status) == stale


def test_osr_run_says_what_came_out(project):
    """Stage plot does where it runs; where nothing does, the command."""
    told = project.python("pipeline.cli", "run")
    assert "Data and pipelines are up to date." in told
    for line in (
        "accuracy ",
        "AUROC ",
        "AUOSCR ",
        "accepted ",
        "aim ",
        "rejected ",
        "report     artifacts/report.html",
    ):
        assert f"\n  {line}" in told


def test_a_finished_run_is_exported_and_judges(project, tmp_path):
    said = project.python("pipeline.cli", "export", str(tmp_path / "classifier"))
    assert f'osr.load("{tmp_path / "classifier"}")' in said
    found = osr.load(tmp_path / "classifier").predict(np.load(project.root / IMAGES)[:300])
    assert 0 < found.labels.count("unknown") < 300
    card = (tmp_path / "classifier/README.md").read_text()
    assert re.search(r"\| maxlogit \| 0\.\d{3} \[", card)


@pytest.mark.slow  # tests/test_register.py and test_requests.py do it in one process
def test_a_registered_model_judges_as_the_command_does_and_names_its_data(project, tmp_path):
    before = len(project.rows())
    said = project.python("pipeline.cli", "register", "judge", "--alias", "best")
    assert "judge, version 1: models:/judge@best" in said
    (row,) = project.rows()[-1:]
    assert len(project.rows()) == before
    version = project.client.get_model_version_by_alias("judge", "best")
    assert version.run_id == row.info.run_id
    for tag in ("osr.split.digest", "mlflow.source.git.commit", "osr.checkpoint", "osr.restore"):
        assert version.tags[tag] == row.data.tags[tag]

    # Loaded far from the project: the model brings its code along.
    images = str(project.root / "artifacts/split/images.npy")
    uri = f"sqlite:///{project.root}/mlflow.db"
    away = Project(tmp_path)
    said = away.run(sys.executable, "-W", "ignore", "-c", LOAD, uri, images)
    found = json.loads(said[said.index("FOUND") + len("FOUND") :])
    assert {record["label"] for record in found["none"]} == {"unknown"}
    labels = [record["label"] for record in found["fitted"]]
    assert 0 < labels.count("unknown") < 300
    assert len(set(labels) - {"unknown"}) > 3
    for record in found["fitted"]:
        assert record["label"] in ("unknown", record["nearest"])
        assert record["nearest"] == max(record["probabilities"], key=record["probabilities"].get)


# By the schema and by stage train; tests/test_config*.py, test_split*.py and others have the rest.
BAD = [
    (
        "split.val_fracton",
        0.1,
        "unknown key 'split.val_fracton'; did you mean 'split.val_fraction'?",
    ),
    pytest.param("model.backbone.weights", "no/such/file.safetensors", "no such file", marks=pytest.mark.ci),
]


@pytest.mark.parametrize(("key", "value", "sentence"), BAD)
def test_bad_input_is_one_sentence_and_touches_nothing(project, key, value, sentence):
    params = (project.root / "params.yaml").read_text()
    before = project.results()
    project.set(key, value)
    printed = project.dvc("repro", status=255)
    (project.root / "params.yaml").write_text(params)
    errors = [line for line in printed.splitlines() if line.startswith("ERROR: ") and sentence in line]
    assert len(errors) == 1, printed
    assert "Traceback" not in printed
    assert project.results() == before


def test_missing_file_is_named(project):
    moved = project.root / "artifacts/model/model.safetensors"
    moved.rename(moved.with_suffix(".away"))
    printed = project.python("pipeline.evaluate", status=1)
    moved.with_suffix(".away").rename(moved)
    assert "artifacts/model/model.safetensors is missing: `osr run" in printed


def test_a_setting_runs_what_it_changes_in_a_row_of_its_own(project):
    before = len(project.rows())
    project.set("plot.dpi", 50)
    assert project.repro() == ["plot"]
    assert len(project.rows()) == before + 1
    row = project.rows()[-1]
    assert_complete(row)
    assert row.data.params["plot.dpi"] == "50"
    assert states(row)["train"] == "cached"


@pytest.mark.slow  # two whole runs
def test_an_experiment_elsewhere_ends_in_the_same_hashes(tmp_path):
    """`dvc repro` after an edit in one clone, `dvc exp run -S` with the same setting in another."""
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
    one, other = clone(tmp_path / "one"), clone(tmp_path / "other")
    one.set("plot.dpi", 50)
    assert one.repro() == list(STAGES)
    said = other.dvc("exp", "run", "-S", "plot.dpi=50")
    assert re.findall(r"Running stage '(.*)'", said) == list(STAGES)
    (row,) = other.rows()
    assert_complete(row)
    assert row.data.params["plot.dpi"] == "50"
    locks = [YAML(typ="safe").load(made.root / "dvc.lock")["stages"] for made in (one, other)]
    outs = [{name: stage["outs"] for name, stage in lock.items()} for lock in locks]
    assert outs[0] == outs[1]
    assert "plot.dpi" in other.dvc("exp", "show", "--csv")


@pytest.mark.slow  # tests/test_tracking.py does it with stages that compute nothing
def test_mlflow_run_fills_the_row_it_made(project):
    before = len(project.rows())
    project.python("mlflow", "run", ".", "--env-manager", "local")
    assert len(project.rows()) == before + 1
    assert_complete(project.rows()[-1])


def test_dvc_shows_metrics_and_plots(project):
    assert "auroc.maxlogit" in project.dvc("metrics", "show")
    assert "auroc.maxlogit" in project.dvc("metrics", "diff")
    page = project.root / "plots"
    project.dvc("plots", "diff", "HEAD", "--out", str(page))
    html = (page / "index.html").read_text()
    for shown in ("artifacts_curves_oscr_maxlogit_csv", "val/loss", "tsne.png"):
        assert shown in html
