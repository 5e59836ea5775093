"""Named sweeps: what is printed, what is queued, and what MLflow already holds."""

import shlex
import shutil
from pathlib import Path

import pytest
from dvc_project import states
from toy_project import create, is_complete

from osr.config import check_params, flatten, read_yaml
from osr.errors import InputError
from pipeline import sweep
from pipeline.named import names_in
from pipeline.overrides import merge
from pipeline.results import Result
from pipeline.stages import PARAMS
from pipeline.sweep import FOLDER, commands, load_sweep, main, missing

ROOT = Path(__file__).parents[1]
TWO = """\
# Two losses
presets: [digits_quick]
settings: {split.protocol: B}
variants:
  - {train.loss: ce}
  - {train.loss: arpl, model.head.name: reciprocal}
grid:
  split.trial: [0, 1, 2]
  train.seed: [0, 1]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped settings, presets and sweeps, and one sweep more; the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("presets", "sweeps"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "sweeps" / "two.yaml").write_text(TWO)
    return tmp_path


@pytest.mark.parametrize("name", names_in(FOLDER))
def test_every_shipped_sweep_obeys_the_schema(name: str) -> None:
    loaded = load_sweep(name)
    assert len(loaded.experiments()) >= 5
    assert (sweep.FOLDER / f"{name}.yaml").read_text().startswith("# "), "what --list shows"


def test_experiments_are_variants_times_grid() -> None:
    found = [flatten(experiment) for experiment in load_sweep("two").experiments()]
    assert len(found) == 12
    assert len({tuple(sorted(experiment.items())) for experiment in found}) == 12
    assert {experiment["train.epochs"] for experiment in found} == {8}
    assert [e["model.head.name"] for e in found if e["train.loss"] == "arpl"] == ["reciprocal"] * 6


def test_one_line_per_variant_runs_through_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["two", "-S", "train.epochs=3"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    words = shlex.split(first)
    assert words[:4] == ["dvc", "exp", "run", "--queue"]
    assert {
        "split.trial=0,1,2",
        "train.seed=0,1",
        "split.protocol=B",
        "train.loss=ce",
        "train.epochs=3",
    } <= set(words)
    assert "model.head.name=reciprocal" in shlex.split(second)


def test_a_grid_wins_over_the_preset() -> None:
    (sweep.FOLDER / "own.yaml").write_text("presets: [digits_quick]\ngrid: {train.epochs: [2, 3]}\n")
    (line,) = commands(load_sweep("own"))
    assert [word for word in line if word.startswith("train.epochs")] == ["train.epochs=2,3"]


def test_what_was_run_is_not_missing() -> None:
    loaded = load_sweep("two")
    experiments = loaded.experiments()
    run = [
        Result("x", 0, {key: str(value) for key, value in flatten(params(experiment)).items()}, {})
        for experiment in experiments[:5]
    ]
    assert missing(loaded, run) == experiments[5:]
    assert (
        missing(load_sweep("two", ["train.lr=1.0"]), run) == load_sweep("two", ["train.lr=1.0"]).experiments()
    )


def params(experiment):
    return check_params(merge(read_yaml(PARAMS), experiment), source="")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("settings: {split.trial: 1}", "must hold a grid, and may hold presets, settings, variants"),
        ("grid: {split.trial: [1]}\nlosses: [ce]", "nothing else"),
        ("grid: {split.trail: [1]}", "did you mean 'split.trial'?"),
        ("grid: {split.trial: [many]}", "split.trial is 'many'"),
        ("presets: [digits_quik]\ngrid: {split.trial: [1]}", "did you mean 'digits_quick'?"),
    ],
)
def test_a_bad_sweep_is_one_sentence(text: str, sentence: str) -> None:
    (sweep.FOLDER / "bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_sweep("bad")
    assert sentence in str(caught.value)


def test_unknown_sweeps_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tow"]) == 1
    assert "There is no sweep 'tow' in sweeps/; did you mean 'two'?" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "two: Two losses\n" in capsys.readouterr().out


def test_a_queued_sweep_is_one_row_per_experiment(tmp_path: Path) -> None:
    toy = create(tmp_path / "toy")
    toy.dvc("repro", "-q")
    (toy.root / "sweeps").mkdir()
    (toy.root / "sweeps" / "figures.yaml").write_text(
        "# Two\nsettings: {plot.tsne_seed: 1}\ngrid: {plot.dpi: [98, 99]}\n"
    )
    toy.python("pipeline.sweep", "figures", "--queue")
    toy.dvc("queue", "start", "-j", "2")
    _, *rows = toy.rows()
    assert sorted(row.data.params["plot.dpi"] for row in rows) == ["98", "99"]
    assert all(is_complete(row) and set(states(row).values()) <= {"done", "cached"} for row in rows)
    assert "no experiment is missing" in toy.python("pipeline.sweep", "figures", "--missing")
