import shlex
import subprocess
from pathlib import Path

import pytest
from dvc_project import Project, states
from ruamel.yaml import YAML
from toy_project import create, is_complete
from tracking_server import free_port

from osr.errors import InputError
from pipeline.launch import dvc_command
from pipeline.overrides import split_overrides
from pipeline.stages import STAGES


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("  ", []),
        ("train.lr=1e-3", ["train.lr=1e-3"]),
        ("train.lr=1e-3  split.trial=1 ", ["train.lr=1e-3", "split.trial=1"]),
        ("split.known=[0, 1] +new.key=2", ["split.known=[0, 1]", "+new.key=2"]),
        ("model.backbone.weights='a b.pth' ~old.key", ["model.backbone.weights='a b.pth'", "~old.key"]),
        ("++a={b: 1, c: 2} d.0=x", ["++a={b: 1, c: 2}", "d.0=x"]),
    ],
)
def test_overrides_are_split_where_the_next_one_starts(text: str, parts: list[str]) -> None:
    assert split_overrides(text) == parts


def test_text_that_is_no_override_is_refused() -> None:
    with pytest.raises(InputError, match="'trial' must look like key=value"):
        split_overrides("trial")


def test_nothing_to_override_is_a_plain_repro() -> None:
    assert dvc_command([])[1:] == ["-m", "dvc", "repro"]
    assert shlex.join(dvc_command(["a=1", "b=2"])[2:]) == "dvc exp run -S a=1 -S b=2"
    assert shlex.join(dvc_command([], "train")[2:]) == "dvc repro train"
    assert shlex.join(dvc_command(["a=1"], "train")[2:]) == "dvc exp run -S a=1 train"


def test_mlproject_has_the_pipeline_and_each_stage() -> None:
    content = YAML(typ="safe").load(Path(__file__).parents[1] / "MLproject")
    assert list(content["entry_points"]) == ["main", *STAGES]
    for name, entry in content["entry_points"].items():
        stage = "" if name == "main" else f"--stage {name} "
        wanted = f"python -m pipeline.launch {stage}--preset {{preset}} --overrides {{overrides}}"
        assert entry["command"] == wanted


@pytest.mark.slow
def test_mlflow_run_of_a_git_address_from_an_empty_folder(tmp_path: Path) -> None:
    create(tmp_path / "toy")
    (tmp_path / "here").mkdir()
    here, port = Project(tmp_path / "here"), str(free_port())
    serve = [
        "git",
        "daemon",
        "--listen=127.0.0.1",
        f"--port={port}",
        "--export-all",
        f"--base-path={tmp_path}",
    ]
    with subprocess.Popen(serve) as daemon:
        try:
            address = f"git://127.0.0.1:{port}/toy"
            options = ("--env-manager", "local", "--experiment-name", "osr", "-P", "preset=fine")
            here.python("mlflow", "run", address, *options)
        finally:
            daemon.terminate()
    (row,) = here.rows()
    assert is_complete(row)
    assert row.data.params["plot.dpi"] == "99"
    assert states(row) == dict.fromkeys(STAGES, "done")
    assert here.artifacts(row, "figures") == ["figures/one.txt"], "they outlive the clone"
