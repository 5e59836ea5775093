"""Files say what they were made from, and a stage refuses those of another split, other weights and so on."""

import json
from pathlib import Path

import numpy as np
import pytest

from osr.errors import InputError
from osr.stored.arrays import write_arrays
from osr.stored.origin import Origin
from pipeline.workspace.stages import CALIBRATION, MODEL, SPLIT, STAGES, WEIGHTS
from pipeline.workspace.stamps import STAMP, check_stamps, stage_metrics, write_stamp

ONE, TWO = "1" * 16, "2" * 16


def hold(digest: str) -> None:
    SPLIT.mkdir(parents=True, exist_ok=True)
    (SPLIT / "split.json").write_text(json.dumps({"digest": digest}))


def train(split: str, number: int) -> str:
    MODEL.mkdir(exist_ok=True)
    weights = write_arrays(WEIGHTS, "weights", {}, Origin(split=split), {"w": np.full(2, number)})
    write_stamp("train", {"epoch": number})
    return weights


def test_files_of_another_split_or_other_weights_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hold(ONE)
    CALIBRATION.mkdir()
    first = train(ONE, 1)
    write_stamp("calibrate", {})
    write_stamp("plot", {})  # has no folder of its own
    assert sorted(path.parent for path in Path().rglob(STAMP)) == [CALIBRATION, MODEL]
    for name in STAGES:
        check_stamps(name)
    hold(TWO)
    check_stamps("train")  # reads nothing but the split
    with pytest.raises(InputError) as error:
        check_stamps("calibrate")
    assert str(error.value) == (
        f"artifacts/model was made from split {ONE}, but artifacts holds split {TWO}: files of different "
        "runs do not go together; `osr run` makes them anew."
    )
    hold(ONE)
    other = train(ONE, 2)
    check_stamps("calibrate")
    with pytest.raises(
        InputError, match=f"calibration was made from weights {first}, but .* weights {other}"
    ):
        check_stamps("evaluate")


def test_metrics_of_another_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hold(ONE)
    train(ONE, 1)
    metrics = STAGES["train"].metrics
    metrics.parent.mkdir()
    metrics.write_text('{"epoch": 1}')
    assert stage_metrics("train") == {"epoch": 1}
    metrics.write_text('{"epoch": 2}')
    with pytest.raises(InputError, match=r"metrics/train\.json and artifacts/model are of different runs"):
        stage_metrics("train")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": "x"}', '{"digest": 5}', "[" * 100_000])
def test_a_damaged_split_is_a_sentence(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hold(ONE)
    train(ONE, 1)
    (SPLIT / "split.json").write_text(content)
    with pytest.raises(InputError, match=r"split\.json is damaged"):
        check_stamps("calibrate")
