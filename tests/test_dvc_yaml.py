"""dvc.yaml tells the truth: deps are what a stage imports, outs what it writes, params what it reads."""

import ast
import re
from pathlib import Path

import pytest
from code_deps import WATCHING, deps_of, module_file, room_of, stage_source, with_code_deps
from ruamel.yaml import YAML

from osr.params import Params
from pipeline.workspace.stages import STAGES

ROOT = Path(__file__).parents[1]
TOPS = ("osr", "pipeline")


def dvc_stages():
    return YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def test_the_six_stages_in_order():
    assert list(dvc_stages()) == list(STAGES)


def listed_code(name):
    return {dep for dep in dvc_stages()[name]["deps"] if dep.split("/")[0] in ("osr", "pipeline")}


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_rooms_that_a_stage_imports(name):
    listed, imported = listed_code(name), deps_of(name, list(STAGES))
    for room in sorted(imported - listed):
        pytest.fail(f"{name} imports {room} and does not list it: run `python tests/code_deps.py`")
    for room in sorted(listed - imported):
        pytest.fail(f"{name} lists {room} and does not import it: run `python tests/code_deps.py`")


def test_a_room_that_is_missing_from_dvc_yaml_is_put_there():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert with_code_deps(text) == text
    assert with_code_deps(text.replace("      - osr/losses\n", "")) == text


def test_plot_depends_on_all_params_and_on_the_code_of_every_stage():
    """Otherwise an execution that stops early would leave a row without test metrics."""
    assert dvc_stages()["plot"]["params"] == [{"params.yaml": None}]
    for name in STAGES:
        others = {room for room in listed_code(name) if not room.startswith("osr")}
        assert others | {"osr"} <= listed_code("plot"), name


def test_stages_take_nothing_from_a_watching_room_that_could_change_a_number():
    taken = {
        alias.name
        for name in STAGES
        for source in (stage_source(name), ROOT / "pipeline/entry.py", ROOT / "pipeline/images.py")
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom) and room_of(module_file(node.module) or source) in WATCHING
        for alias in node.names
    }
    assert taken == {"Row", "stage_run", "system_metrics"}


@pytest.mark.parametrize("name", STAGES)
def test_command_and_metrics_file(name):
    stage = dvc_stages()[name]
    assert stage["cmd"] == f"python -m pipeline.{stage_source(name).stem}"
    assert stage["metrics"] == [{STAGES[name].metrics.as_posix(): {"cache": False, "persist": True}}]


@pytest.mark.parametrize("name", STAGES)
def test_dvc_never_deletes_an_output_and_the_stage_swaps_all_of_them(name):
    stage = dvc_stages()[name]
    outs = {
        path: options for out in [*stage["outs"], *stage.get("plots", [])] for path, options in out.items()
    }
    assert sorted(outs) == sorted(path.as_posix() for path in STAGES[name].results)
    assert all(options["persist"] for options in outs.values())


@pytest.mark.parametrize("package", ["osr", "pipeline"])
def test_package_files_hold_a_docstring_only(package):
    """So that they need not stand among the deps; `osr.load` is for users, and no stage calls it.

    That of pipeline says what Ctrl-C does while modules are imported.
    """
    for path in set((ROOT / package).rglob("__init__.py")) - {ROOT / top / "__init__.py" for top in TOPS}:
        body = ast.parse(path.read_text()).body
        assert len(body) == 1, path
        assert isinstance(body[0].value, ast.Constant), path


def test_no_stage_calls_what_stands_in_the_package_file():
    for path in (*(ROOT / "osr").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")):
        text = path.read_text()
        assert "osr.load(" not in text.replace('osr.load("', ""), path  # in a sentence to the user
        assert "from osr import" not in text, path


def params_read(source):
    """`params.section` or `params.section.key` accesses in a stage's code."""
    pattern = re.compile(r"\bparams\.([a-z_]+)(?:\.([a-z_]+))?")
    return {(section, key) for section, key in pattern.findall(source) if section in Params.model_fields}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "plot"])
def test_params_are_declared(name):
    stage = dvc_stages()[name]
    files = [ROOT / dep for dep in stage["deps"] if dep.startswith("pipeline/") and dep.endswith(".py")]
    code = "".join(file.read_text() for file in files)
    for section, key in params_read(code):
        declared = stage["params"]
        assert section in declared or f"{section}.{key}" in declared, (name, section, key)


@pytest.mark.parametrize("name", STAGES)
def test_outs_cover_what_is_mirrored(name):
    stage = dvc_stages()[name]
    outs = [
        Path(path) for out in [*stage["outs"], *stage["metrics"], *stage.get("plots", [])] for path in out
    ]
    mirrored = [*STAGES[name].artifacts, STAGES[name].checkpoint, STAGES[name].history]
    for path in filter(None, mirrored):
        assert any(path.is_relative_to(out) or out.is_relative_to(path) for out in outs), path
