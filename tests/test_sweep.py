"""Named sweeps: what is printed, what is queued, and what MLflow already holds."""

import shlex
import shutil
from pathlib import Path

import pytest
from dvc_project import states
from toy_project import create, is_complete

from osr.errors import InputError
from osr.params import flatten
from pipeline import cli
from pipeline.experiments.named import names_in
from pipeline.experiments.sweep import commands
from pipeline.experiments.sweep_file import FOLDER, load_sweep

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
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# "), "what --list shows"


def test_experiments_are_variants_times_grid() -> None:
    found = [flatten(experiment) for experiment in load_sweep("two").experiments()]
    assert len(found) == 12
    assert len({tuple(sorted(experiment.items())) for experiment in found}) == 12
    assert {experiment["train.epochs"] for experiment in found} == {8}
    assert [e["model.head.name"] for e in found if e["train.loss"] == "arpl"] == ["reciprocal"] * 6


def test_one_line_per_variant_runs_through_the_grid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "two", "-S", "train.epochs=3"]) == 0
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
    (FOLDER / "own.yaml").write_text("presets: [digits_quick]\ngrid: {train.epochs: [2, 3]}\n")
    (line,) = commands(load_sweep("own"))
    assert [word for word in line if word.startswith("train.epochs")] == ["train.epochs=2,3"]


def test_an_override_wins_over_the_grid() -> None:
    (line,) = commands(load_sweep("digits_a", ["split.trial=1"]))
    assert [word for word in line if word.startswith("split.trial")] == ["split.trial=1"]
    assert len(load_sweep("digits_a", ["split.trial=1"]).experiments()) == 1
    shrunk = load_sweep("two", ["split={trial: 2}"])
    assert {experiment["split"]["trial"] for experiment in shrunk.experiments()} == {2}
    assert len(shrunk.experiments()) == 4
    (FOLDER / "own.yaml").write_text("grid: {plot.detector: [msp], detectors.enabled: [[msp], [msp, mav]]}\n")
    (line,) = commands(load_sweep("own", ["detectors.enabled=[msp, energy]"]))
    assert line[-1] == "detectors.enabled=[msp,energy]"


def test_an_override_may_be_of_a_key_of_your_own_network() -> None:
    (line,) = commands(load_sweep("digits_a", ["model.backbone.options={depth: 3}"]))
    assert "++model.backbone.options.depth=3" in line


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["split=3"], "-S: split is 3, but must name a setting; it names a section."),
        (["split=3", "split.trial=1"], "-S: split is 3, but must name a setting; it names a section."),
        (["model.backbone.options=3"], "-S: model.backbone.options is 3, but must name a setting"),
        (["split.trial.x=3"], "-S: split.trial.x is 3, but must not stand below a setting."),
        (["split.trial=[1, 2]"], "split.trial is [1, 2], but must be a whole number."),
        (["split.trail=1"], "did you mean 'split.trial'?"),
        ([""], "The override '' must look like key=value."),
        (["~split.trial"], "The override '~split.trial' must look like key=value."),
        (["train.lr=[1"], "The override 'train.lr=[1': its value is not valid YAML, line 1: "),
        (
            ["train.lr=2020-13-45"],
            "its value is not valid YAML: a value in it cannot be read (month must be in 1..12).",
        ),
    ],
)
def test_a_bad_override_is_one_sentence(
    overrides: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", "digits_a", *(part for text in overrides for part in ("-S", text))]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1


def test_variants_with_names_run_alone_or_together(capsys: pytest.CaptureFixture[str]) -> None:
    variants = "variants: {mild: {train.lr: 0.01}, wild: {train.lr: 0.1, train.epochs: 3}}"
    (FOLDER / "named.yaml").write_text(f"{variants}\ngrid: {{train.seed: [0, 1]}}")
    every = load_sweep("named").experiments()
    wild = [{"train": {"lr": 0.1, "epochs": 3, "seed": seed}} for seed in (0, 1)]
    assert load_sweep("named", variant="wild").experiments() == wild == every[2:]
    assert cli.main(["sweep", "named", "--variant", "wild"]) == 0
    assert (
        capsys.readouterr().out == "dvc exp run --queue -S train.lr=0.1 -S train.epochs=3 -S train.seed=0,1\n"
    )
    for sweep, variant, told in (
        ("named", "widl", "sweeps/named.yaml has no variant 'widl'; did you mean 'wild'?"),
        ("named", "none", "has no variant 'none'; there are: mild, wild."),
        ("two", "ce", "sweeps/two.yaml has no variant 'ce'; its variants have no names."),
    ):
        assert cli.main(["sweep", sweep, "--variant", variant]) == 1
        assert told in capsys.readouterr().err


def test_what_tells_the_variants_apart_cannot_be_overridden() -> None:
    with pytest.raises(
        InputError, match=r"train\.loss is 'ce', but must be left to the variants of sweeps/two"
    ):
        load_sweep("two", ["train.loss=ce"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("settings: {split.trial: 1}", "must hold a grid, and may hold presets, settings, variants"),
        ("grid: {split.trial: [1]}\nlosses: [ce]", "nothing else"),
        ("grid: {split.trail: [1]}", "did you mean 'split.trial'?"),
        ("grid: {split.trial: [many]}", "split.trial is 'many'"),
        ("grid: [1, 2]", "sweeps/bad.yaml: grid is [1, 2], but must be settings, each as key: value."),
        ("grid: {1: [2]}", "sweeps/bad.yaml: grid is {1: [2]}, but must be settings"),
        ("grid: {split.trial: 3}", "sweeps/bad.yaml: grid.split.trial is 3, but must be a list of values."),
        (
            "grid: {split.trial: []}",
            "grid.split.trial is [], but must be a list of one value or more: it must not",
        ),
        ("grid: {split: [{trial: 1}]}", "grid.split is [{'trial': 1}], but must be a list of values."),
        ("grid: {split: [1]}", "sweeps/bad.yaml, grid: split is [1], but must name a setting"),
        ("settings: [a]\ngrid: {train.seed: [1]}", "settings is ['a'], but must be settings"),
        ("settings:\ngrid: {train.seed: [1]}", "settings is empty, but must be settings"),
        ("settings: {split: 3}\ngrid: {split.trial: [1]}", "bad.yaml, settings: split is 3, but must name"),
        ("variants: {train.loss: ce}\ngrid: {train.seed: [1]}", "variants is {'train.loss': 'ce'}, but must"),
        ("variants: [ce]\ngrid: {train.seed: [1]}", "variants is ['ce'], but must be a list of settings, or"),
        ("variants: []\ngrid: {train.seed: [1]}", "variants is [], but must be a list of settings, or"),
        ("variants: {}\ngrid: {train.seed: [1]}", "variants is {}, but must be a list of settings, or"),
        ("variants: {a: {1: 2}}\ngrid: {train.seed: [1]}", "variants[a] is {1: 2}, but must be settings"),
        ("variants: [{split: 3}]\ngrid: {split.trial: [1]}", "bad.yaml, variants: split is 3, but must name"),
        (
            "presets: digits_quick\ngrid: {train.seed: [1]}",
            "presets is 'digits_quick', but must be a list of",
        ),
        ("presets: [1]\ngrid: {train.seed: [1]}", "bad.yaml: presets is [1], but must be a list of names."),
        (
            f"grid: {{train.seed: {[*range(100)]}, split.seed: {[*range(51)]}}}",
            "5,000 experiments, not 5,100.",
        ),
        ("presets: [digits_quik]\ngrid: {split.trial: [1]}", "did you mean 'digits_quick'?"),
    ],
)
def test_a_bad_sweep_is_one_sentence(text: str, sentence: str) -> None:
    (FOLDER / "bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_sweep("bad")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_sweeps_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "tow"]) == 1
    assert "There is no sweep 'tow'; did you mean 'two'?" in capsys.readouterr().err
    assert cli.main(["sweep", "--list"]) == 0
    assert "two: Two losses\n" in capsys.readouterr().out


@pytest.mark.ci
def test_a_queued_sweep_is_one_row_per_experiment(tmp_path: Path) -> None:
    toy = create(tmp_path / "toy")
    toy.dvc("repro", "-q")
    (toy.root / "sweeps").mkdir()
    (toy.root / "sweeps" / "figures.yaml").write_text(
        "# Two\nsettings: {plot.gallery_images: 1}\ngrid: {plot.dpi: [98, 99]}\n"
    )
    toy.python("pipeline.cli", "sweep", "figures", "--queue")
    again = toy.python("pipeline.cli", "sweep", "figures", "--missing", "--queue")
    assert "2 experiments run, or wait in DVC's queue" in again
    assert "Queued experiment" not in again
    toy.dvc("queue", "start", "-j", "2")
    _, *rows = toy.rows()
    assert sorted(row.data.params["plot.dpi"] for row in rows) == ["98", "99"]
    assert all(is_complete(row) and set(states(row).values()) <= {"done", "cached"} for row in rows)
    assert "no experiment is missing" in toy.python("pipeline.cli", "sweep", "figures", "--missing")
