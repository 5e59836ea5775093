"""Settings that are gone: what is said of their keys, and what becomes of older files and runs."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from changed_settings import ROOT, SHIPPED, complaint
from tampering import rewrite
from test_hard_features import drawn

from osr.calibration.calibrators import TEMPERATURES
from osr.calibration.reliability import ECE_BINS
from osr.detectors import neighbors
from osr.detectors.base import Detector
from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import MaxLogit
from osr.detectors.neighbors import NNGuide, Relation
from osr.detectors.registry import load_detector
from osr.errors import InputError
from osr.losses.supcon import PROJECTION_WIDTH
from osr.params import flatten
from osr.settings.gone import GONE
from osr.training.probe import MAX_ITERATIONS, TOLERANCE
from pipeline import cli
from pipeline.experiments.space_file import load_space
from pipeline.experiments.sweep import missing
from pipeline.experiments.sweep_file import load_sweep
from pipeline.tracking.results import results_of
from pipeline.tracking.rows_in_bulk import Row

LEAVES = flatten(SHIPPED)
TRAIN, TEST = drawn()
NOW = {
    "train.probe.tolerance": TOLERANCE,
    "train.probe.max_iterations": MAX_ITERATIONS,
    "losses.supcon.projection_width": PROJECTION_WIDTH,
    "calibrate.min_temperature": TEMPERATURES[0],
    "calibrate.max_temperature": TEMPERATURES[1],
    "calibrate.ece_bins": ECE_BINS,
    "detectors.relation.threshold": neighbors.THRESHOLD,
}
TOLD = "losses.combined.rho is gone since osr 0.2.0: losses.penalty.rho takes its place"
FIXED_SEEDS = {"calibrate.seed", "detectors.nnguide.seed"}
GUIDE = NNGuide(num_neighbors=3, bank_fraction=0.2)
RELATION = Relation(power=1.0, bank_fraction=1.0)


@pytest.mark.parametrize("key", GONE)
def test_a_key_that_is_gone_is_told_what_stands_in_its_place(key: str) -> None:
    gone = GONE[key]
    assert key not in LEAVES
    now = f"{gone.instead} takes its place" if gone.instead else f"it is always {gone.value:g} now"
    assert complaint({key: gone.value}) == f"{key} is gone since osr {gone.since}: {now}; take it out."


def test_what_is_said_of_them_is_so() -> None:
    """The value that holds now is that of the code, or of the setting that takes the place."""
    assert {key: gone.value for key, gone in GONE.items() if not gone.instead} == NOW | dict.fromkeys(
        FIXED_SEEDS, 0
    )
    assert all(gone.value == LEAVES[gone.instead] for gone in GONE.values() if gone.instead)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of today, and a preset, a sweep and a search of an older project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSR_TRACKING", "off")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder, text in (
        ("presets", "losses: {combined: {rho: 3.0}}\n"),
        ("sweeps", "settings: {losses.combined.rho: 3.0}\ngrid: {split.trial: [0, 1]}\n"),
        (
            "searches",
            (ROOT / "searches" / "digits.yaml").read_text().replace("train.lr:", "losses.combined.rho:"),
        ),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.yaml").write_text(text)
    shutil.copytree(ROOT / "presets", tmp_path / "presets", dirs_exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        ["run", "-S", "losses.combined.rho=3.0"],
        ["preset", "old"],
        ["preset", "old", "--apply"],
        ["sweep", "old"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("project")
def test_each_way_to_set_it_ends_in_the_sentence(words: list[str], capsys: pytest.CaptureFixture) -> None:
    before = Path("params.yaml").read_bytes()
    assert cli.main(words) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "combined" in line]
    assert line.endswith(f"{TOLD}; take it out.")
    assert Path("params.yaml").read_bytes() == before


def test_stages_of_an_older_project_that_list_it_are_refused_before_the_first(project, capsys):
    """DVC would train first, and stop at the stage that lists it."""
    (project / ".dvc").mkdir()
    (project / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    stages = (ROOT / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        stages.replace("- detectors.enabled\n", "- detectors.enabled\n      - calibrate.ece_bins\n")
    )
    assert cli.main(["run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    told = "the params of stage evaluate have calibrate.ece_bins, which is gone since osr 0.2.0: it is"
    assert line == f"ERROR: dvc.yaml: {told} always 15 now; take it out."


@pytest.mark.usefixtures("project")
def test_a_search_of_it_ends_in_the_sentence() -> None:
    with pytest.raises(InputError, match=re.escape(TOLD)):
        load_space(Path("searches/old.yaml"))


@pytest.mark.parametrize(
    ("detector", "key", "value", "other"),
    [(GUIDE, "seed", 0, 1), (RELATION, "threshold", 0.03, 0.05)],
    ids=["nnguide", "relation"],
)
def test_a_fitted_detector_of_an_earlier_version_loads_where_it_means_the_same(
    tmp_path: Path, detector: Detector, key: str, value: float, other: float
) -> None:
    path = tmp_path / f"{detector.name}.safetensors"
    detector.fit(TRAIN).save(path)
    rewrite(path, lambda told: told["settings"].update({key: value}))
    assert np.array_equal(load_detector(path).score(TEST), detector.score(TEST))
    rewrite(path, lambda told: told["settings"].update({key: other}))
    told = f"detectors.{detector.name}.{key} was {other}, and is gone since osr 0.2.0: it is always {value:g}"
    with pytest.raises(InputError, match=f"^{path} is damaged, or of another version of osr .*{told}"):
        load_detector(path)


def test_so_does_a_member_of_an_ensemble(tmp_path: Path) -> None:
    path, both = tmp_path / "ensemble.safetensors", Ensemble(members=(MaxLogit(), RELATION)).fit(TRAIN)
    both.save(path)
    rewrite(path, lambda told: told["settings"]["members"]["relation"].update(threshold=0.03))
    assert np.array_equal(load_detector(path).score(TEST), both.score(TEST))
    rewrite(path, lambda told: told["settings"]["members"]["relation"].update(threshold=0.05))
    with pytest.raises(InputError, match=r"relation\.threshold was 0\.05, and is gone since osr"):
        load_detector(path)


def row(**changes: str) -> Row:
    """A finished run of the shipped settings by an osr that still had all of them."""
    held = {key: str(value) for key, value in LEAVES.items()}
    held |= {key: str(gone.value) for key, gone in GONE.items()} | changes
    return Row("id", "old", 0, held, {}, {"osr.stage.evaluate": "done"})


def test_an_older_run_is_like_today_s_where_it_means_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (same,) = results_of([row()]).done
    assert same.params == {key: str(value) for key, value in LEAVES.items()}
    sweep = load_sweep("digits_a")
    lacking = sweep.experiments()[1:]
    assert missing(sweep, [same]) == lacking
    for key, value, answers in (
        ("calibrate.ece_bins", "9", False),
        ("detectors.relation.threshold", "0.05", False),
        ("plot.tsne_seed", "1", True),  # a figure is no result
        ("losses.combined.rho", "3.0", False),
    ):
        (other,) = results_of([row(**{key: value})]).done
        assert other.params == same.params | {key: value}
        assert missing(sweep, [other]) == (lacking if answers else sweep.experiments())
    # What stands in its place says it today, so the old setting must have said that, not its old default.
    changed = {"losses.penalty.rho": "3.0"}
    (other,) = results_of([row(**changed)]).done
    assert other.params == same.params | changed | {"losses.combined.rho": "2.0"}
    (alike,) = results_of([row(**changed, **{"losses.combined.rho": "3.0"})]).done
    assert alike.params == same.params | changed
