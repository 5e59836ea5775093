"""dvc.yaml tells the truth: deps are what a stage imports, outs what it writes, params what it reads."""

import ast
import re
from pathlib import Path

import pytest
from code_deps import data_files, import_closure, stage_source
from ruamel.yaml import YAML

from osr.config import Params
from pipeline.stages import STAGES

ROOT = Path(__file__).parents[1]


def dvc_stages():
    return YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_the_six_stages_in_order():
    assert list(dvc_stages()) == list(STAGES)


@pytest.mark.parametrize("name", [name for name in STAGES if name != "plot"])
def test_code_deps_are_the_import_closure(name):
    stage = dvc_stages()[name]
    listed = {dep for dep in stage["deps"] if dep.startswith(("osr/", "pipeline/"))}
    assert listed == import_closure(stage_source(name)) | data_files(name), "run `python tests/code_deps.py`"


def test_plot_depends_on_all_code_and_all_params():
    """Otherwise an execution that stops early would leave a row without test metrics."""
    stage = dvc_stages()["plot"]
    assert {"osr", "pipeline"} <= set(stage["deps"])
    assert stage["params"] == [{"params.yaml": None}]


@pytest.mark.parametrize("name", STAGES)
def test_command_and_metrics_file(name):
    stage = dvc_stages()[name]
    assert stage["cmd"] == f"python -m pipeline.{stage_source(name).stem}"
    assert stage["metrics"] == [{STAGES[name].metrics.as_posix(): {"cache": False}}]


@pytest.mark.parametrize("package", ["osr", "pipeline"])
def test_package_files_hold_a_docstring_only(package):
    """So that they need not stand among the deps."""
    for path in (ROOT / package).rglob("__init__.py"):
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0].value, ast.Constant), path


def params_read(source):
    """`params.section` or `params.section.key` accesses in a stage's code."""
    pattern = re.compile(r"\bparams\.([a-z_]+)(?:\.([a-z_]+))?")
    return {(section, key) for section, key in pattern.findall(source) if section in Params.model_fields}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "plot"])
def test_params_are_declared(name):
    stage = dvc_stages()[name]
    files = [dep for dep in stage["deps"] if dep.startswith("pipeline/")]
    code = "".join((ROOT / file).read_text() for file in files)
    for section, key in params_read(code):
        declared = stage["params"]
        assert section in declared or f"{section}.{key}" in declared, (name, section, key)


@pytest.mark.parametrize("name", STAGES)
def test_outs_cover_what_is_mirrored(name):
    stage = dvc_stages()[name]
    outs = [Path(out) for out in stage.get("outs", [])] + [Path(next(iter(m))) for m in stage["metrics"]]
    mirrored = [*STAGES[name].artifacts, STAGES[name].checkpoint, STAGES[name].history]
    for path in filter(None, mirrored):
        assert any(path.is_relative_to(out) for out in outs), path
