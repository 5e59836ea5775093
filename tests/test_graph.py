from pathlib import Path

import pytest

from pipeline.tracking.graph import ancestors

TOY = Path(__file__).parent / "tracking_project"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("prepare-split", ()),
        ("train", ("prepare-split",)),
        ("calibrate", ("prepare-split", "train")),
        ("fit-openmax", ("prepare-split", "train")),
        ("evaluate", ("prepare-split", "train", "calibrate", "fit-openmax")),
        ("plot", ("prepare-split", "train", "calibrate", "fit-openmax", "evaluate")),
    ],
)
def test_ancestors_follow_the_files(
    stage: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TOY)
    assert ancestors(stage) == expected


def test_files_within_folders_and_options_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(
        "stages:\n"
        "  train:\n"
        "    cmd: x\n"
        "    outs: [artifacts/model: {persist: true}]\n"
        "    metrics: [metrics/train.json: {cache: false}]\n"
        "  calibrate: {cmd: x, deps: [metrics/train.json], outs: [artifacts/calibration/t.json]}\n"
        "  evaluate: {cmd: x, deps: [artifacts/calibration/]}\n"
        "  plot: {cmd: x, deps: [artifacts/model/a.csv, artifacts/calibration2]}\n"
    )
    assert ancestors("evaluate") == ("train", "calibrate")
    assert ancestors("plot") == ("train",)


def test_without_dvc_yaml_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ancestors("plot") == ()
