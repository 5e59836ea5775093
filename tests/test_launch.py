import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from dvc_project import FOREIGN, Project, states
from ruamel.yaml import YAML
from toy_project import create, is_complete
from tracking_server import free_port

from osr.errors import InputError
from pipeline import cli
from pipeline.experiments import launch
from pipeline.experiments.launch import dvc_command
from pipeline.experiments.overrides import overridden, split_overrides
from pipeline.tracking.store import connect
from pipeline.workspace.stages import PARAMS, STAGES

ROOT = Path(__file__).parents[1]


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
    assert dvc_command() == ["dvc", "repro"]
    assert shlex.join(dvc_command(is_experiment=True)) == "dvc exp run"
    assert shlex.join(dvc_command("train", force=True)) == "dvc repro --force train"
    assert shlex.join(dvc_command("train", is_experiment=True)) == "dvc exp run train"


def test_mlproject_has_the_pipeline_and_each_stage() -> None:
    content = YAML(typ="safe").load(ROOT / "MLproject")
    assert list(content["entry_points"]) == ["main", *STAGES]
    for name, entry in content["entry_points"].items():
        stage = "" if name == "main" else f"{name} "
        wanted = f"python -m pipeline.cli run {stage}--sync --preset {{preset}} --overrides {{overrides}}"
        assert entry["command"] == wanted


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the shipped settings and presets, in which DVC fails."""
    shutil.copy(ROOT / PARAMS, tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "finished", lambda *_arguments: 255)
    return tmp_path


def commit(project: Path) -> None:
    """Make the folder a git repository with one commit."""
    who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    for words in (("init", "-q"), ("add", "params.yaml"), (*who, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *words], cwd=project, check=True)


NAMED = """split.unknown=["Überholverbot für Lkw",'größe 28',plain]"""


def test_an_experiment_of_osr_touches_no_other_line_of_the_settings(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Names with blanks and umlauts in them, too; `dvc exp run -S` rewrites every list of the file."""
    before = (project / PARAMS).read_text(encoding="utf-8").splitlines()
    flags = [part for text in (NAMED, "split.protocol=explicit", "train.lr=1e-2") for part in ("-S", text)]
    assert cli.main(["run", *flags]) == 1, "neither git nor a commit"
    assert (project / PARAMS).read_text(encoding="utf-8").splitlines() == before

    commit(project)
    caplog.set_level("INFO", "osr.tracking")
    assert cli.main(["run", *flags]) == 255, "DVC fails here"
    assert caplog.messages[-1] == "params.yaml keeps the new settings; `git diff params.yaml` shows them."
    after = (project / PARAMS).read_text(encoding="utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.partition("#")[0].strip() for _, new in changed] == [
        "protocol: explicit",
        "unknown: [Überholverbot für Lkw, größe 28, plain]",
        "lr: 0.01",
    ]
    assert all(old.partition("#")[2] == new.partition("#")[2] for old, new in changed), "with their comments"


UNKNOWN_KEY = "params.yaml with overrides: unknown key 'train.epochz'; did you mean 'train.epochs'?"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.epochz=3", UNKNOWN_KEY),
        ("+train.epochz=3", UNKNOWN_KEY),
        ("train.lr=abc", "params.yaml with overrides: train.lr is 'abc', but must be a number."),
        ("train.lr=1,2", "params.yaml with overrides: train.lr is '1,2', but must be a number."),
        (
            "~train.lr",
            "params.yaml with overrides: the key 'train.lr' is missing; every setting must be given.",
        ),
        ("train.lr=[", "The override 'train.lr=[': its value is not valid YAML, line 1: "),
        (
            "split.background=[Überholverbot]",
            "overrides: DVC cannot read 'split.trial=1 split.background=[Überholverbot]': "
            "LexerNoViableAltException: split.background=[Überholverbot]; names with other letters than a to "
            """z stand in quotes: -S 'split.unknown=["größe 28"]'.""",
        ),
        ("dataset.root=a=b", "overrides: DVC cannot read 'split.trial=1 dataset.root=a=b': "),
    ],
)
def test_a_bad_override_is_one_sentence_before_dvc_starts(override: str, sentence: str) -> None:
    before = PARAMS.read_text()
    with pytest.raises(InputError) as caught:
        overridden(["split.trial=1", override])
    assert str(caught.value).startswith(sentence)
    assert PARAMS.read_text() == before


@pytest.mark.usefixtures("project")
def test_a_regular_expression_stands_in_quotes() -> None:
    pattern = r"(?:patient|p)(\d+)_[a-z]"
    with pytest.raises(InputError, match=r"a text with such signs stands in quotes: -S 'dataset.group_pat"):
        overridden(["dataset.name=folder", f"dataset.group_pattern={pattern}"])
    given = overridden(["dataset.name=folder", f'dataset.group_pattern="{pattern}"'])
    assert given["dataset"]["group_pattern"] == pattern


def test_good_overrides_pass_as_dvc_reads_them(project: Path) -> None:
    overridden([])
    overridden(["train.lr=1e-3", "+model.backbone.options={depth: 2}", "split.trial=1"])
    given = overridden(["model.backbone.options.num_classes=6", "+model.backbone.options.depth=2"])
    assert given["model"]["backbone"]["options"] == {"num_classes": 6, "depth": 2}
    (project / PARAMS).write_text((project / PARAMS).read_text().replace("epochs: 80", "epochs: 0"))
    overridden(["train.epochs=80"])
    with pytest.raises(InputError, match=r"^params.yaml: train.epochs is 0, but must be at least 1"):
        overridden([])


def test_one_run_at_a_time(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second would change the settings under the first."""
    before = (project / PARAMS).read_text()
    with launch.alone():
        assert cli.main(["run", "-S", "train.epochs=5"]) == 1
    assert "Another `osr run` or `osr fit` is at work in this project" in capsys.readouterr().err
    assert (project / PARAMS).read_text() == before
    with launch.alone():
        pass


def test_the_row_of_mlflow_run_says_why_it_failed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in filter(lambda name: name.startswith(FOREIGN), [*os.environ]):
        monkeypatch.delenv(name, raising=False)
    commit(project)
    store = connect(project)
    for arguments, reason in {
        ("--preset", "digits_quik"): "InputError: There is no preset 'digits_quik'; did you mean",
        ("--overrides", "train.epochz=3"): f"InputError: {UNKNOWN_KEY}",
        ("--preset", "digits_quick"): "DVC ended with exit status 255",
    }.items():
        run_id = store.client.create_run(store.experiment).info.run_id
        monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
        assert cli.main(["run", *arguments]) != 0
        row = store.client.get_run(run_id)
        assert row.info.status == "FAILED"
        assert row.data.tags["osr.launch"].startswith(f"FAILED: {reason}")


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
