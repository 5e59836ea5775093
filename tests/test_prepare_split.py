"""Stage prepare-split: what happens to copies of an image, the report, and the contact sheet."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osr.data.contact_sheet import CELL, NAMES_WIDTH, contact_sheet
from osr.data.images import ImageFiles, ImageSet
from osr.errors import InputError
from osr.params import Params, load_params
from osr.splits.split import Split
from pipeline.prepare_split import divide, prepare_split
from pipeline.report import split_report as report_module
from pipeline.split_cautions import changed_classes, split_cautions
from pipeline.workspace.stages import CONTACT_SHEET, IMAGES, NEAR_COPIES, NEAR_COPIES_SHEET, SPLIT

ROOT = Path(__file__).parents[1]


def params(**split: object) -> Params:
    shipped = load_params(ROOT / "params.yaml")
    changed = shipped.model_dump()
    changed["split"] |= {"protocol": "first_k", "num_known": 2} | split
    changed["detectors"]["enabled"] = ["maxlogit"]  # openmax needs more training images
    return Params.model_validate(changed)


def copied() -> ImageSet:
    """Three classes of 20 images; image 3 stands in the training and in the test part."""
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 8, 3), dtype=np.uint8)
    images[13] = images[3]
    parts = np.tile(np.repeat(["train", "test"], 10), 3)
    groups = np.arange(60) // 2
    return ImageSet(images, np.repeat([0, 1, 2], 20), ("cat", "dog", "tree frog"), parts, groups)


def test_copies_are_reported_dropped_or_refused() -> None:
    reported = divide(copied(), params())
    assert reported.duplicates == [[3, 13]]
    dropped = divide(copied(), params(duplicates="drop"))
    assert dropped.duplicates == []
    assert 13 in dropped.test
    assert set(reported.train) | set(reported.val) == {3} | set(dropped.train) | set(dropped.val)
    with pytest.raises(InputError) as error:
        divide(copied(), params(duplicates="error"))
    assert str(error.value) == (
        "split: 1 of the images stand in several parts, the first as rows 3, 13; split.duplicates: drop "
        "leaves each in one place."
    )


def test_an_image_tested_as_known_and_as_unknown_is_reported_dropped_or_refused() -> None:
    data = copied()
    data.images[3] = 0
    data.images[50] = data.images[13]  # a test image of the known cat stands among the unknown frogs, too
    reported = divide(data, params())
    assert reported.duplicates == []
    assert reported.contradictions == [[13, 50]]
    dropped = divide(data, params(duplicates="drop"))
    assert set(reported.test) - set(dropped.test) == {50}
    with pytest.raises(InputError, match=r"split: 1 of the images are tested both as known and as unknown"):
        divide(data, params(duplicates="error"))


@pytest.mark.parametrize("as_files", [False, True])
def test_near_copies_are_counted_listed_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_files: bool
) -> None:
    images = (
        np.random.default_rng(0).integers(0, 256, (60, 8, 9, 1), dtype=np.uint8).repeat(6, 1).repeat(6, 2)
    )
    images[13] = images[3]
    images[13, 5, 5] = 255 - images[13, 5, 5]
    monkeypatch.chdir(tmp_path)
    if as_files:
        Path("data").mkdir()
        for row, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(f"data/{row}.png")
        images = ImageFiles(Path("data"), np.array([f"{row}.png" for row in range(60)]), 1)
    data = ImageSet(images, copied().targets, copied().class_names, copied().parts)
    monkeypatch.setattr("pipeline.prepare_split.load", lambda _params: (data, {}))
    metrics = prepare_split(params(), None)
    assert (metrics["duplicates"], metrics["near_copies"]) == (0, 1)
    [part] = [part for part in ("train", "val") if 3 in Split.load(SPLIT).rows(part)]
    assert NEAR_COPIES.read_text().splitlines()[1:] == [
        f"3,{part},cat,3.png,13,test,cat,13.png" if as_files else f"3,{part},cat,,13,test,cat,"
    ]
    with Image.open(NEAR_COPIES_SHEET) as sheet:
        assert sheet.height == 2 * CELL
    assert "near-copies in different parts: 1," in report_module.split_report()


def test_a_tail_larger_than_a_class_stops_the_stage_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.prepare_split.load", lambda _params: (copied(), {}))
    asked = params()
    detectors = asked.detectors.model_copy(update={"enabled": ("openmax",)})
    with pytest.raises(InputError, match=r"detectors.openmax.tail_size is 20, but must be at most 8"):
        prepare_split(asked.model_copy(update={"detectors": detectors}), None)
    assert not list(tmp_path.iterdir())


def doubts(asked: Params) -> list[str]:
    return split_cautions(divide(copied(), asked), asked.split, num_near_copies=0)


def test_a_class_that_explicit_lists_forget_is_told() -> None:
    explicit = {"protocol": "explicit", "num_known": 0}
    forgotten, copies = doubts(params(**explicit, known=["dog", "cat"]))
    assert forgotten.startswith("Classes whose images are not used, as neither split.known nor another list")
    assert "names them: tree frog (20)." in forgotten
    assert doubts(params(**explicit, unknown=["tree frog"])) == [copies]
    assert doubts(params(num_unknown=0)) == [copies]  # these leave it out on purpose


def test_the_stage_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = copied()
    (tmp_path / "data").mkdir()
    np.savez(
        tmp_path / "data" / "images.npz",
        images=data.images,
        labels=np.array(data.class_names)[data.targets],
        part=data.parts,
        group=data.groups,
    )
    monkeypatch.chdir(tmp_path)
    settings = params()
    settings = settings.model_copy(update={"dataset": settings.dataset.model_copy(update={"name": "arrays"})})
    metrics = prepare_split(settings, None)
    assert metrics["images"] == {"train": 16, "val": 4, "test": 30, "test_known": 20, "test_unknown": 10}
    assert (metrics["duplicates"], metrics["contradictions"]) == (1, 0)
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("prepare-split: Identical images in several parts: 1, so copies of test images")
    assert np.load(IMAGES).shape == (60, 6, 8, 3)
    with Image.open(CONTACT_SHEET) as sheet:
        assert sheet.size[1] == 4 * CELL
    split = Split.load(SPLIT)
    assert report_module.split_report().splitlines() == [
        f"split {split.digest}",
        "class      role          train      val     test",
        "cat        known             8        2       10",
        "dog        known             8        2       10",
        "tree frog  unknown           0        0       10",
        "all                         16        4       30",
        "groups                       8        2       15",
        "images in no part: 10",
        "openness: 0.106",
        "identical images in several parts: 1",
        f"  row 3 ({'train' if 3 in split.train else 'val'}, cat), row 13 (test, cat)",
        "identical images tested as known and as unknown: 0",
        "identical images of several classes: 0",
        "images to look at: artifacts/split/contact_sheet.png",
    ]


def test_the_report_needs_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"split.json is missing: `osr run prepare-split`"):
        report_module.split_report()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (38, 19), (100, 300)])
def test_the_contact_sheet_shows_each_class_in_its_line(channels: int, size: tuple[int, int]) -> None:
    images = np.zeros((30, *size, channels), np.uint8)
    images += (np.arange(30, dtype=np.uint8) * 8)[:, None, None, None]
    split = Split(
        targets=np.repeat([0, 1, 2], 10),
        class_names=("a", "b", "a very long name that does not fit into its cell"),
        known=(1, 0),
        background=(),
        unknown=(2,),
        train=np.r_[0:4, 10:14],
        val=np.array([4, 14]),
        test=np.r_[5:10, 15:30],
    )
    sheet = np.asarray(contact_sheet(images, split, per_part=2))
    block = 2 * CELL + 12
    assert sheet.shape == (4 * CELL, NAMES_WIDTH + 3 * block, 3)
    first = {
        (line, part): sheet[line * CELL, NAMES_WIDTH + part * block, 0]
        for line in (1, 2, 3)
        for part in (0, 2)
    }
    assert first == {(1, 0): 80, (1, 2): 120, (2, 0): 0, (2, 2): 40, (3, 0): 255, (3, 2): 160}
    assert sheet[CELL, NAMES_WIDTH + CELL, 0] == 8 * 13  # the last of the training rows, not the second


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("cat", "dog", "tree frog"), ""),
        (("cat", "dog", "owl"), "no longer has images of tree frog, and has owl instead: in the run before"),
        (("cat", "dog"), "no longer has images of tree frog: in the run before"),
        (("cat", "dog", "owl", "tree frog"), ""),
        (("0", "1"), ""),
    ],
)
def test_classes_that_are_gone_since_the_run_before_are_told_of(
    tmp_path: Path, names: tuple[str, ...], told: str
) -> None:
    assert changed_classes(tmp_path, names) == []
    divide(copied(), params()).save(tmp_path)
    assert [told in said for said in changed_classes(tmp_path, names)] == [True] * bool(told)
    (tmp_path / "split.json").write_text("{}")
    assert changed_classes(tmp_path, names) == []
