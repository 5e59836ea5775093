"""The ledger of published numbers: the page that is made of it, its commands, and a result made anew."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from dvc_project import clone_of_this

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.reading import read_yaml
from pipeline import cli
from pipeline.experiments import reproduce
from pipeline.experiments.ledger import LEDGER, Entry, Ledger, load_ledger
from pipeline.experiments.ledger_page import page
from pipeline.experiments.overrides import merge, overridden
from pipeline.experiments.preset import Settings, load_presets
from pipeline.experiments.reproduce import compare, experiments_of, sweep_of, table
from pipeline.workspace.stages import PARAMS

ROOT = Path(__file__).parents[1]
NAMES = tuple(load_ledger(ROOT / LEDGER).entries)


@pytest.fixture(autouse=True)
def in_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def entry(**changes: object) -> Entry:
    held = {
        "title": "t",
        "runs": {"grid": {"train.seed": [0]}},
        "commit": "0123456",
        "hardware": "h",
        "minutes": 1.0,
        "tolerance": 0.01,
        "numbers": {"network": {"closed_set/accuracy": "0.900"}, "knn": {"auroc": "**0.800 ± 0.010**"}},
    }
    return Entry.model_validate(held | changes)


def metrics(accuracy: float, auroc: float) -> Settings:
    return {"closed_set": {"accuracy": accuracy}, "auroc": {"knn": auroc}}


def test_the_page_of_results_is_made_of_the_ledger() -> None:
    made = page(load_ledger())
    assert Path("docs/results.md").read_text(encoding="utf-8") == made, (
        "osr reproduce --page > docs/results.md"
    )


def flags_of(command: str) -> tuple[list[str], list[str]]:
    """Presets and settings that a command names."""
    words = shlex.split(command.replace("\\\n", " "))
    after = list(pairwise(words))
    inside = re.findall(r"\$\(osr preset ([\w ]+)\)", command)
    presets = [name for text in inside for name in text.split()]
    return presets + [w for flag, w in after if flag == "--preset"], [w for flag, w in after if flag == "-S"]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_is_shown_makes_the_runs_that_are_compared(name: str) -> None:
    found = load_ledger().entries[name]
    experiments = sweep_of(name, found).experiments()
    if sweep := re.match(r"osr sweep (\w+)(?: --variant (\w+))? ", found.command):
        assert (found.sweep, found.variant) == sweep.groups()
    elif "dvc exp run --queue" not in found.command and found.command:
        presets, settings = flags_of(found.command)
        shown = overridden(settings, load_presets(presets) if presets else {})
        ours = read_yaml(Path(PARAMS))
        expected = flatten(check_params(merge(ours, shown), source="shown"))
        assert [flatten(check_params(merge(ours, run), source="runs")) for run in experiments] == [expected]
    assert not found.splits or len(found.splits) == len(experiments)


def test_a_number_holds_within_the_tolerance_of_the_mean_over_runs() -> None:
    verdicts = compare(entry(), [metrics(0.905, 0.79), metrics(0.911, 0.76)])
    assert [(verdict.number.name, verdict.holds) for verdict in verdicts] == [
        ("closed_set/accuracy", True),
        ("auroc knn", False),
    ]
    assert verdicts[1].found == pytest.approx(0.775)
    assert "1 of 2 numbers met" in table(verdicts)


def test_a_number_that_the_runs_do_not_have_is_not_met() -> None:
    told = compare(entry(), [metrics(0.9, 0.8), {"closed_set": {"accuracy": 0.9}}])
    assert [(verdict.holds, verdict.found) for verdict in told] == [(True, 0.9), (False, None)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tolerance": 0.0}, "tolerance"),
        ({"commit": "HEAD"}, "commit is 'HEAD', but must be 7 to 40"),
        ({"numbers": {"knn": {"auroc": "good"}}}, "'good', but must be as 0.96"),
        ({"sweep": "digits_a"}, "exactly one of `sweep` and `runs`"),
        ({"digest": "x"}, "digest"),
    ],
)
def test_a_bad_ledger_is_one_sentence(changes: Settings, told: str, tmp_path: Path) -> None:
    import yaml

    content = {"intro": "# Results", "entries": {"one": entry().model_dump(mode="json") | changes}}
    (tmp_path / "ledger.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=re.escape(told)):
        load_ledger(tmp_path / "ledger.yaml")


def test_a_missing_file_is_named_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"gtsrb_tuned needs nowhere/gtsrb32.npz, which is not here"):
        experiments_of("gtsrb_tuned", load_ledger().entries["gtsrb_tuned"], ["dataset.root=nowhere"])


def test_an_unknown_name_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "digit"]) == 1
    assert "did you mean 'digits'" in capsys.readouterr().err


@pytest.mark.parametrize(("found", "told"), [("a1", "1 of 1 runs have the published"), ("b2", "")])
def test_images_or_a_division_that_differ_are_said(
    found: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = Ledger("", {"one": entry(splits=["a1"])}, {})
    monkeypatch.setattr(reproduce, "load_ledger", lambda: ledger)
    monkeypatch.setattr(reproduce, "_results", lambda *_: iter([{"split": found, "metrics": {}}]))
    assert cli.main(["reproduce", "one", "--split"]) == (0 if found == "a1" else 1)
    assert capsys.readouterr().out.startswith(told)
    assert ("other images or another division (split b2, published a1)" in caplog.text) == (found == "b2")


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a clone")
def test_a_result_is_made_anew_once(tmp_path: Path) -> None:
    project = clone_of_this(tmp_path / "osr")
    said = project.python("pipeline.cli", "reproduce", "digits_quick")
    assert "2 of 2 numbers met" in said
    assert "other images or another division" not in said
    assert project.run("git", "status", "--porcelain") == "", "the project itself is as it was"
    assert "Running stage" not in project.python("pipeline.cli", "reproduce", "digits_quick")
