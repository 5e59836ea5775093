"""Files of different runs are refused by name, wherever they are read."""

import json
import re
import shutil
from pathlib import Path

import finished_run
import pytest
import torch
from extracted import build
from pages import check_section
from tampering import rewrite
from test_predict import ROOT, exportable, load, model, run, write_run  # noqa: F401 (fixtures)

from osr.errors import InputError
from osr.params import load_params
from pipeline import cli
from pipeline.inference import load_detectors
from pipeline.report.run_files import RunFiles
from pipeline.serving import register
from pipeline.workspace import stages

DETECTOR = stages.DETECTORS / "mahalanobis.safetensors"
APART = "files of different runs do not go together; `dvc repro` makes them anew."
HEADING = "Files of different runs"


def evaluated() -> None:
    from osr.metrics.threshold_files import load_thresholds

    load_detectors(["mahalanobis"], load_thresholds(stages.THRESHOLDS))


def registered() -> None:
    register.register("x", load_params(Path("params.yaml")), detector="mahalanobis")


@pytest.fixture
def others(exportable: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: ARG001, F811
    """Other runs: of other weights, of another split, and of the same weights with another detector."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("weights", "split", "detector")}
    other_weights = build()
    with torch.no_grad():
        other_weights.head.weight.mul_(1.5)
    write_run(folders["weights"], other_weights)
    other_split = build()
    other_split.made_from = other_split.made_from.model_copy(update={"split": "5" * 16})
    write_run(folders["split"], other_split)
    same = type(other_split).load(stages.WEIGHTS)
    write_run(folders["detector"], same, ridge=0.5)
    return folders


def test_mixtures_are_refused_everywhere(others: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    cases = {
        "new weights, all else as before": ("weights", [stages.WEIGHTS]),
        "weights of another split": ("split", [stages.WEIGHTS]),
        "the calibration of another run": ("weights", [stages.CALIBRATOR]),
        "a detector of another run": ("weights", [DETECTOR]),
        "the thresholds of another run": ("weights", [stages.THRESHOLDS]),
        "a detector of the same weights, fitted with other settings": ("detector", [DETECTOR]),
        "detector and thresholds of another run": ("weights", [DETECTOR, stages.THRESHOLDS]),
    }
    for what, (other, files) in cases.items():
        kept = {file: file.read_bytes() for file in files}
        for file in files:
            shutil.copy(others[other] / file, file)
        said = refusal(lambda: load("mahalanobis"))
        assert said.endswith(APART)
        assert refusal(registered) == said
        for command in (["predict", "params.yaml"], ["export", "out"]):
            assert cli.main([*command, "--detector", "mahalanobis"]) == 1
            assert capsys.readouterr().err == f"ERROR: {said}\n"
        assert not Path("out").exists()
        if files in ([DETECTOR], [stages.THRESHOLDS]):
            assert refusal(evaluated).endswith(APART)
        for file, content in kept.items():
            file.write_bytes(content)
        lines.append(f"| {what} | {shown(said)} |")
    shutil.copy(stages.DETECTORS / "maxlogit.safetensors", DETECTOR)
    said = refusal(lambda: load("mahalanobis"))
    lines.append(f"| a detector under the name of another | {shown(said)} |")
    introduction = (
        "`pytest -n 0 tests/test_mixtures.py` mixes runs. `osr predict`, `osr export`, `osr register`\n"
        "and `osr.load` say the same, and the stages refuse the same. D stands for a digest.\n\n"
        "| what was mixed | what is said |\n|---|---|\n"
    )
    check_section("reliability.md", HEADING, introduction + "\n".join(lines))


def refusal(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    return str(error.value)


def shown(said: str) -> str:
    return "*" + re.sub(r"\b[0-9a-f]{16}\b", "D", said) + "*"


@pytest.mark.parametrize("digest", ["weights", "split"])
def test_what_evaluate_left_must_be_of_the_files_at_hand(
    digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = finished_run.params_of(ROOT)
    finished_run.make(tmp_path, monkeypatch, params=params)
    readers = {
        stages.SCORES: lambda at_hand: at_hand.scores,
        stages.CONFUSION: lambda at_hand: at_hand.confusions,
        stages.PER_CLASS: lambda at_hand: at_hand.known_classes,
        stages.CALIBRATOR: lambda at_hand: at_hand.calibration,
        stages.THRESHOLDS: lambda at_hand: at_hand.thresholds,
        stages.TEST_OUTPUTS / "outputs.json": lambda at_hand: at_hand.outputs,
    }
    for file, read in readers.items():
        read(RunFiles(params))
        kept = file.read_bytes()
        rewrite(file, **{digest: "5" * 16})
        at_hand = RunFiles(params)
        with pytest.raises(InputError, match=f"{file.name if file.suffix != '.json' else ''}.*{digest}"):
            read(at_hand)
        file.write_bytes(kept)
    metrics = stages.STAGES["evaluate"].metrics
    metrics.write_text(json.dumps({"auroc": {}}))
    with pytest.raises(InputError, match=r"metrics/evaluate\.json and artifacts/evaluation are of different"):
        _ = RunFiles(params).metrics
