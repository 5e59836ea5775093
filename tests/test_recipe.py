"""The harness that ranks recipes sees no unknown class and no test image."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.recipe import settings
from osr.errors import InputError
from osr.held_out import Judged, hold_outs, judge, load_known
from osr.params import Params
from osr.splits.division import make_split

ROOT = Path(__file__).parents[1]
OPENED: set[str] = set()


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def quick(*overrides: str) -> Params:
    return settings(["digits_quick"], ["train.accelerator=cpu", *overrides])


def test_a_recipe_is_judged_and_a_training_goes_on(tmp_path: Path) -> None:
    params = quick("train.epochs=3")
    data = load_known(params, [0])
    hold_out = hold_outs(params, data.class_names, trials=[0], parts=3)[1]
    found = judge(params, data, hold_out, folder=tmp_path / "whole")
    assert found.accuracy > 0.5
    assert 0 < found.auroc < 1
    early = judge(params, data, hold_out, folder=tmp_path / "paused", until=1)
    assert early.auroc != found.auroc
    assert judge(params, data, hold_out, folder=tmp_path / "paused") == found


def test_a_detector_that_learns_is_fitted(tmp_path: Path) -> None:
    params = quick("train.epochs=2")
    data = load_known(params, [0])
    hold_out = hold_outs(params, data.class_names, trials=[0], parts=2)[0]
    assert len(hold_out.held_out) == 3
    aurocs = {
        judge(params, data, hold_out, folder=tmp_path, detector=name).auroc for name in ("maxlogit", "knn")
    }
    assert len(aurocs) == 2


def test_trainings_hold_each_known_class_out_once_in_each_trial() -> None:
    params = quick()
    names = tuple(map(str, range(10)))
    found = hold_outs(params, names, trials=[0, 3], parts=3)
    assert [one.name for one in found] == ["0.0", "3.0", "0.1", "3.1", "0.2", "3.2"]
    of_first = [one for one in found if one.name.startswith("0.")]
    held = [number for one in of_first for number in one.held_out]
    assert len(held) == len(set(held)) == 6
    assert all(set(one.known) | set(one.held_out) == set(held) for one in of_first)
    with pytest.raises(InputError, match="6 known classes cannot be held out in 7 parts"):
        hold_outs(params, names, trials=[0], parts=7)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders; the files of the unknown class, and those of the published test part, are no images."""
    draw = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "emu", "fox", "gnu")):
        for part, count in (("train", 12), ("test", 3)):
            folder = tmp_path / "data" / "photos" / part / name
            folder.mkdir(parents=True)
            for file in (folder / f"{place}.png" for place in range(count)):
                if name == "dog" or part == "test":
                    file.write_bytes(b"poison")
                else:
                    pixels = draw.integers(0, 60, (12, 12, 3)) + 40 * number
                    Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "data"


def of_photos(photos: Path, *overrides: str) -> Params:
    explicit = ["split.protocol=explicit", "split.unknown=[dog]", "dataset.name=folder"]
    return quick(
        *explicit,
        f"dataset.root={photos}",
        "dataset.folder=photos",
        "train.epochs=1",
        "train.warmup_epochs=0",
        *overrides,
    )


def opened(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        OPENED.add(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode())


sys.addaudithook(opened)


@pytest.mark.parametrize("size", ["dataset.pack_size=auto", "dataset.pack_size=none"])
def test_no_file_of_an_unknown_class_or_of_the_test_part_is_opened(
    photos: Path, tmp_path: Path, size: str
) -> None:
    params = of_photos(photos, size, "model.image_size=12", "train.num_workers=0")
    OPENED.clear()
    data = load_known(params, [0])
    assert len(data.images) == 48
    assert len(data.targets) == 60, "the division draws for every class"
    for hold_out in hold_outs(params, data.class_names, trials=[0], parts=2):
        judge(params, data, hold_out, folder=tmp_path)
    read = {path for path in OPENED if path.endswith(".png")}
    assert len(read) == 48
    assert not [path for path in read if "dog" in path or "/test/" in path]


def test_the_test_images_of_the_run_are_neither_learned_nor_judged(tmp_path: Path) -> None:
    params = quick("train.epochs=1", "train.warmup_epochs=0")
    data = load_known(params, [0])
    assert (data.places >= 0).sum() < len(data.targets)
    hold_out = hold_outs(params, data.class_names, trials=[0], parts=3)[0]
    run = make_split(
        data.targets,
        data.class_names,
        known=sorted((*hold_out.known, *hold_out.held_out)),
        unknown=[],
        val_fraction=params.split.val_fraction,
        test_fraction=params.split.test_fraction,
        seed=params.split.seed,
    )

    def judged(poisoned: np.ndarray, name: str) -> Judged:
        images = np.array(data.images)
        images[data.places[poisoned]] = 255 - images[data.places[poisoned]]
        return judge(params, replace(data, images=images), hold_out, folder=tmp_path / name)

    whole = judged(run.test, "whole")
    assert whole == judged(run.test[:0], "poisoned")
    assert whole != judged(run.train, "learned")
