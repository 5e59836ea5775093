"""Files say which split they were made from, and a stage refuses those of another split."""

import json
from pathlib import Path

import pytest

from osr.errors import InputError
from pipeline.workspace.stages import CALIBRATION, EVALUATION, MODEL, SPLIT, STAGES
from pipeline.workspace.stamps import STAMP, check_stamps, write_stamp


def hold(digest: str) -> None:
    SPLIT.mkdir(parents=True, exist_ok=True)
    (SPLIT / "split.json").write_text(json.dumps({"digest": digest}))


def test_files_of_another_split_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hold("one")
    for folder in (MODEL, CALIBRATION, EVALUATION):
        folder.mkdir()
    write_stamp("train")
    write_stamp("calibrate")
    write_stamp("plot")  # has no folder of its own
    assert (MODEL / STAMP).read_text() == "one\n"
    assert sorted(path.parent for path in Path().rglob(STAMP)) == [CALIBRATION, MODEL]
    for name in STAGES:
        check_stamps(name)
    hold("two")
    check_stamps("train")  # reads nothing but the split
    with pytest.raises(InputError) as error:
        check_stamps("calibrate")
    assert str(error.value) == (
        "artifacts/model was made from split one, but artifacts/split holds two: run `dvc repro`."
    )
    write_stamp("train")
    check_stamps("calibrate")
    with pytest.raises(InputError, match="artifacts/calibration was made from split one"):
        check_stamps("evaluate")
