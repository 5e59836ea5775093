"""Named sweeps: what is printed, what is queued, and what MLflow already holds."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from dvc_project import states
from toy_project import create, is_complete

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.reading import read_yaml
from pipeline import cli
from pipeline.experiments.named import names_in
from pipeline.experiments.overrides import merge
from pipeline.experiments.preset import load_presets
from pipeline.experiments.sweep import commands, missing, run_otherwise
from pipeline.experiments.sweep_file import FOLDER, load_sweep
from pipeline.tracking.results import Result
from pipeline.workspace.stages import PARAMS

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


def row_of(experiment: dict, **changes: str | None) -> Result:
    """A finished run of an experiment; `train__lr="1.0"` changes a param, None takes it away."""
    held = {key: str(value) for key, value in flatten(params(experiment)).items()}
    held |= {key.replace("__", "."): value for key, value in changes.items()}
    return Result("x", 0, {key: value for key, value in held.items() if value is not None}, {})


@pytest.mark.parametrize(
    ("changes", "answers"),
    [
        ({}, True),
        ({"train__epochs": "8", "train__warmup_epochs": "1"}, False),
        ({"evaluate__bootstrap_replicates": "100"}, False),
        ({"detectors__enabled": "['msp']"}, False),
        ({"dataset__root": "/elsewhere", "dataset__download": "False"}, True),
        ({"train__accelerator": "gpu", "train__devices": "2", "train__strategy": "ddp"}, True),
        ({"train__num_workers": "0", "extraction__batch_size": "64", "plot__dpi": "99"}, True),
        ({"preset": "digits_quick", "overrides": "split.trial=1", "train__of_old": "1"}, True),
        ({"train__label_smoothing": None, "model__head__temperature": None}, True),
        ({"split__protocol": None}, False),
        ({"split__trial": None}, False),
    ],
)
def test_a_row_answers_an_experiment_that_agrees_in_all_that_decides(changes: dict, answers: bool) -> None:
    loaded = load_sweep("digits_a")
    first, *others = loaded.experiments()
    assert missing(loaded, [row_of(first, **changes)]) == (others if answers else [first, *others])


def test_a_row_of_a_quick_preset_does_not_answer_the_sweep(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quick = merge(load_presets(["digits_quick"]), {"split": {"trial": 1}})
    monkeypatch.setattr("pipeline.experiments.sweep.read_workspace", lambda _: [row_of(quick)])
    assert cli.main(["sweep", "digits_a", "--missing"]) == 0
    assert [shlex.split(line)[-1] for line in capsys.readouterr().out.splitlines()] == [
        f"split.trial={trial}" for trial in range(5)
    ]
    assert caplog.messages == [
        "5 experiments not run with exactly these settings; with others, such as train.warmup_epochs=1, "
        "train.epochs=8, evaluate.bootstrap_replicates=100: 1 of them (give the same -S)."
    ]
    loaded = load_sweep("digits_a")
    first = loaded.experiments()[0]
    assert run_otherwise(loaded, [row_of(first)]) == ""
    assert run_otherwise(loaded, [row_of(first, dataset__name="mnist", train__epochs=1)]) == ""


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset.name": "arrays", "split.protocol": "random", "split.num_known": 2},
        {"dataset.unknown_sources": [{"source": "far", "name": "folder"}]},
    ],
)
def test_another_folder_of_your_own_data_is_other_data(settings: dict) -> None:
    content = {"settings": settings, "grid": {"train.seed": [0]}}
    (FOLDER / "own.yaml").write_text(json.dumps(content))
    loaded = load_sweep("own")
    (experiment,) = loaded.experiments()
    assert missing(loaded, [row_of(experiment)]) == []
    assert missing(loaded, [row_of(experiment, dataset__root="/elsewhere")]) == [experiment]


def test_what_the_sweep_sets_always_decides() -> None:
    (FOLDER / "own.yaml").write_text("grid: {train.devices: [1, 2], plot.dpi: [98, 99]}\n")
    loaded = load_sweep("own")
    experiments = loaded.experiments()
    assert missing(loaded, map(row_of, experiments[:2])) == experiments[2:]


def test_a_param_that_mlflow_cut_is_known_by_its_beginning() -> None:
    names = [f"class {number}" for number in range(900)]
    explicit = {"split.protocol": "explicit", "split.known": names, "split.unknown": ["other"]}
    (FOLDER / "own.yaml").write_text(json.dumps({"settings": explicit, "grid": {"train.seed": [0]}}))
    loaded = load_sweep("own")
    (experiment,) = loaded.experiments()
    whole = row_of(experiment).params["split.known"]
    assert len(whole) > 6000
    assert missing(loaded, [row_of(experiment, split__known=whole[:5999] + "…")]) == []
    assert missing(loaded, [row_of(experiment, split__known="x" + whole[:5998] + "…")]) == [experiment]


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
        ("grid: {split.trial: []}", "grid.split.trial is [], but must be a list of values."),
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
    assert "There is no sweep 'tow' in sweeps/; did you mean 'two'?" in capsys.readouterr().err
    assert cli.main(["sweep", "--list"]) == 0
    assert "two: Two losses\n" in capsys.readouterr().out


@pytest.mark.ci
def test_a_queued_sweep_is_one_row_per_experiment(tmp_path: Path) -> None:
    toy = create(tmp_path / "toy")
    toy.dvc("repro", "-q")
    (toy.root / "sweeps").mkdir()
    (toy.root / "sweeps" / "figures.yaml").write_text(
        "# Two\nsettings: {plot.tsne_seed: 1}\ngrid: {plot.dpi: [98, 99]}\n"
    )
    toy.python("pipeline.cli", "sweep", "figures", "--queue")
    toy.dvc("queue", "start", "-j", "2")
    _, *rows = toy.rows()
    assert sorted(row.data.params["plot.dpi"] for row in rows) == ["98", "99"]
    assert all(is_complete(row) and set(states(row).values()) <= {"done", "cached"} for row in rows)
    assert "no experiment is missing" in toy.python("pipeline.cli", "sweep", "figures", "--missing")
