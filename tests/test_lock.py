"""Settings changed after the present run was made: the classifier's are told, and none of the others."""

import json
import random
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from osr.params import flatten
from osr.settings.reading import read_yaml
from pipeline.workspace.lock import recorded_stages, settings_since
from pipeline.workspace.stages import PARAMS, STAGES

ROOT = Path(__file__).parents[1]
MADE_BY = ("prepare-split", "train", "calibrate", "fit-openmax")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.lock"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)


def write(content) -> None:
    PARAMS.write_text(json.dumps(content))  # is YAML, too


def test_a_run_with_these_settings_says_nothing() -> None:
    assert list(recorded_stages()) == list(STAGES)
    assert settings_since() == ""
    write(read_yaml(PARAMS))
    assert settings_since() == "", "written otherwise, the settings are the same"


def test_every_setting_of_the_classifier_is_told_and_no_other() -> None:
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    owned = tuple(f"{key}." for name in MADE_BY for key in stages[name]["params"])
    ours = read_yaml(PARAMS)
    keys = random.Random(0).sample(sorted(flatten(ours)), 40)
    assert 20 < sum(f"{key}.".startswith(owned) for key in keys) < 40
    for key in keys:
        changed = read_yaml(PARAMS)
        *sections, last = key.split(".")
        section = changed
        for name in sections:
            section = section[name]
        then, section[last] = section[last], "another"
        write(changed)
        said = settings_since()
        assert (f"{key} (now 'another', then " in said) == f"{key}.".startswith(owned), (key, then, said)
        write(ours)


def test_what_was_added_or_taken_away_is_told() -> None:
    ours = read_yaml(PARAMS)
    ours["losses"]["options"] = {"gamma": 2}
    del ours["detectors"]["knn"]["num_neighbors"]
    write(ours)
    assert settings_since() == (
        "params.yaml was changed since the present run: losses.options.gamma (now 2, then not given), "
        "detectors.knn.num_neighbors (now not given, then 50). What follows is of that run; `osr run` "
        "makes it anew."
    )


@pytest.mark.parametrize("lock", [None, "", "schema: '2.0'\nstages:\n  train:\n    cmd: x\n"])
def test_without_a_record_nothing_is_said(lock) -> None:
    Path("dvc.lock").unlink() if lock is None else Path("dvc.lock").write_text(lock)
    assert settings_since() == ""
