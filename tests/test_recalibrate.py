"""A new version of an exported folder: thresholds from new known images, all else as it was."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from extracted import IMAGES, split_of_images
from numpy.testing import assert_array_equal
from PIL import Image
from tampering import described, rewrite
from test_export import FILES, folder  # noqa: F401 (fixture)
from test_predict import exportable, model, run, write_run  # noqa: F401 (fixtures)

import osr
from osr.calibration.calibrators import fit_calibration
from osr.errors import InputError
from osr.inference.recalibration import new_thresholds
from osr.metrics.thresholds import Threshold, conformal_p_values, fewest_images, fit_threshold
from osr.params import load_params
from osr.stored.files import file_digest
from pipeline import cli
from pipeline.serving.export import export
from pipeline.workspace.stages import PARAMS

SHARED = ("model.safetensors", "detectors/mahalanobis.safetensors", "detectors/maxlogit.safetensors")


def shifted(count: int, seed: int = 0) -> np.ndarray:
    """Known images as another camera sees them: a third of the contrast."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 1))
    return (100 + images // 3).astype(np.uint8)


def save(images: np.ndarray, where: Path, names: tuple[str, ...] = ("",)) -> None:
    for number, image in enumerate(images):
        file = where / names[number % len(names)] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(file)


def recalibrate(*arguments: str) -> int:
    return cli.main(["recalibrate", "classifier", *arguments, "--out", "new"])


def in_order(count: int, names: tuple[str, ...] = ("",)) -> list[int]:
    """The numbers of saved images in the order of their paths."""
    return [number for start in range(len(names)) for number in range(start, count, len(names))]


@pytest.mark.usefixtures("folder")
def test_acceptance_on_shifted_knowns_is_right_again(capsys):
    images, later = shifted(240), shifted(240, seed=1)
    save(images, Path("photos/deep"))
    save(later, Path("later"))
    assert recalibrate("photos", "--accept", "0.9", "--rule", "conformal") == 0
    told = capsys.readouterr().out
    assert "Calibration of the probabilities: left as it was: the images have no labels." in told
    old, new = osr.load("classifier"), osr.load("new")
    for name in new.detectors:
        scores = old.predict(images, detector=name).scores
        fit = fit_threshold(scores, target_acceptance=0.9, conformal=True)
        assert new.parts.detectors[name][1] == fit
        assert_array_equal(new.scores[name], scores)
        before, now = (found.predict(later, detector=name) for found in (old, new))
        assert_array_equal(now.scores, before.scores)
        assert_array_equal(now.p_values, conformal_p_values(scores, now.scores))
        accepted = [1 - found.labels.count("unknown") / 240 for found in (before, now)]
        assert abs(accepted[0] - 2 / 3) > 0.2, "the shift moves it"
        assert abs(accepted[1] - 0.9) < 0.06
    assert cli.main(["predict", "later", "--model", "new", "--output", "v.csv"]) == 0
    assert Path("v.csv").read_text().count(",unknown,") == new.predict(later).labels.count("unknown")


@pytest.mark.usefixtures("folder")
def test_images_that_may_not_be_known_are_warned_of(caplog):
    save(shifted(60), Path("photos"), ("x", "y"))
    assert recalibrate("photos") == 0
    assert (
        "photos: none of its folders (x, y) is called like a known class; all images are taken" in caplog.text
    )
    bright = np.full((60, 6, 6, 1), 255, np.uint8)
    bright[:, :3] = np.arange(60, dtype=np.uint8)[:, None, None, None]
    save(bright, Path("bright"))
    caplog.clear()
    assert cli.main(["recalibrate", "classifier", "bright", "--out", "other"]) == 0
    share = 1 - osr.load("classifier").predict(bright).labels.count("unknown") / 60
    assert ("of the images were accepted before: if there are unknown ones" in caplog.text) == (share < 0.5)


@pytest.mark.usefixtures("folder")
def test_the_new_version_says_what_it_is():
    save(shifted(60), Path("photos"), ("a", "b", "c"))
    assert recalibrate("photos") == 0
    digest = file_digest(Path("classifier/classifier.json"))
    card = Path("new/README.md").read_text()
    for told in (
        f"`classifier`, whose classifier.json has the digest {digest}",
        "60, of `photos`; 20 a, 20 b, 20 c; the network finds the class of ",
        "| 0.666667, `acceptance` |",
    ):
        assert told in card
    assert card.endswith(Path("classifier/README.md").read_text())
    said = described(Path("new/classifier.json"))["content"]["recalibrated"]
    assert (said["version"], said["num_images"], said["images"]) == (digest, 60, "photos")
    for name in SHARED:
        assert Path("new", name).read_bytes() == Path("classifier", name).read_bytes()
    assert tuple(sorted(path.relative_to("new").as_posix() for path in Path("new").rglob("*.*"))) == FILES
    assert cli.main(["recalibrate", "new", "photos", "--out", "newer"]) == 0
    assert osr.load("newer").parts.thresholds.of == osr.load("new").parts.thresholds.of
    first = file_digest(Path("new/README.md"))
    assert recalibrate("photos") == 1, "what is there is not replaced"
    assert file_digest(Path("new/README.md")) == first


@pytest.mark.usefixtures("folder")
def test_folders_with_wrong_names_are_warned_of(caplog):
    names, images = ("a", "b", "c"), shifted(90)
    found = osr.load("classifier").predict(images).predictions
    for turn, is_wrong in ((0, False), (1, True)):
        for number, label in enumerate(found):
            save(images[number : number + 1], Path(f"photos{turn}/{names[(label + turn) % 3]}/{number:02}"))
        caplog.clear()
        assert cli.main(["recalibrate", "classifier", f"photos{turn}", "--out", f"new{turn}"]) == 0
        told = "the network takes images of these folders for others: "
        assert (told in caplog.text) == is_wrong
    assert re.search(r"others: a \((\d+) of \1 for c\)|others: b \((\d+) of \2 for a\)", caplog.text)


@pytest.mark.usefixtures("folder")
def test_labels_calibrate_the_probabilities_anew():
    names, classifier = ("a", "b", "c"), osr.load("classifier")
    images = np.random.default_rng(3).integers(0, 256, (90, 6, 6, 1), dtype=np.uint8)
    found = classifier.predict(images).predictions
    rows = np.arange(90)
    labels = np.where(rows % 5, found, (found + 1 + rows // 5 % 2) % 3)  # one in five is another class
    for number, label in enumerate(labels):
        save(images[number : number + 1], Path(f"photos/{names[label]}/{number:02}"))
    assert set(labels) == {0, 1, 2}
    assert recalibrate("photos") == 0
    order = np.argsort(labels, kind="stable")
    expected = fit_calibration(
        classifier.outputs(images[order]).logits,
        labels[order],
        method="temperature",
        folds=load_params(Path(__file__).parents[1] / "params.yaml").calibrate.folds,
    )
    assert expected.not_used is None
    new = osr.load("new")
    assert new.parts.calibration.temperature == pytest.approx(expected.calibration.temperature, rel=1e-4)
    assert new.parts.calibration != classifier.parts.calibration
    card = Path("new/README.md").read_text()
    shutil.rmtree("photos/c")
    assert cli.main(["recalibrate", "classifier", "photos", "--out", "newer"]) == 0
    assert "left as it was: there is no image of c" in Path("newer/README.md").read_text()
    assert "finds the class of 80.0%" in card
    assert "calibration of the probabilities: made anew from these images" in card


def test_groups_count_as_one_image_each(exportable, model, capsys):  # noqa: F811
    write_run(exportable, model)
    rewrite(
        exportable / "artifacts/detectors/validation_scores.safetensors",
        change_arrays=lambda arrays: arrays.update(group=np.arange(30) // 2),
    )
    export(Path("classifier"), load_params(PARAMS))
    save(shifted(60), Path("photos"))
    assert recalibrate("photos") == 1
    assert "classifier counts images of a group as one: say with --group-pattern" in capsys.readouterr().err
    pattern = ["--group-pattern", r"(\d\d)\d\."]
    assert recalibrate("photos", *pattern, "--rule", "conformal", "--accept", "0.9") == 1
    assert "6 groups of images are too few" in capsys.readouterr().err
    assert recalibrate("photos", *pattern, "--rule", "conformal") == 0
    new = osr.load("new")
    assert_array_equal(new.groups, np.repeat(np.arange(6), 10))
    assert new.parts.detectors["maxlogit"][1].num_groups == 6
    assert "60 in 6 groups, of `photos`" in Path("new/README.md").read_text()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["few", "--accept", "0.95"], "18 images are too few for a threshold that accepts 0.95 of new known"),
        (["few", "--accept", "0.95"], "it needs 19 at least."),
        (["mixed"], "mixed has folders of known classes, but also images beside them, dog: take these away"),
        (["bad"], "bad/x.png is no image that can be read: its format is unknown. Remove it, or put a whole"),
        (["gone"], "gone is no folder with images of known classes."),
        (["few", "--group-pattern", "x"], "--group-pattern: 'x' is not found in '000.png'"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(capsys, arguments, sentence):
    save(shifted(18), Path("few"))
    save(shifted(6), Path("mixed"), ("a", "dog", ""))
    save(shifted(3), Path("bad"))
    Path("bad/x.png").write_text("no image")
    assert recalibrate(*arguments) == 1
    assert sentence in capsys.readouterr().err
    assert not list(Path().glob("new*"))


def test_thresholds_of_background_images_need_another_rule():
    earlier = {"msp": Threshold(0.0, "background", 0.05, 0.9, 30, 0.05, 20)}
    scores = {"msp": np.arange(40.0)}
    for options in ({}, {"accept": 0.9}, {"rule": "conformal"}):
        with pytest.raises(InputError, match="made from background images, and new ones are not given"):
            new_thresholds(earlier, scores, **options)
    made = new_thresholds(earlier, scores, rule="acceptance", accept=0.9)["msp"]
    assert (made.rule, made.target, made.value) == ("acceptance", 0.9, 35.0)


@pytest.mark.parametrize("target", [0.05, 0.5, 0.9, 0.95, 0.99, 2 / 3, 0.999])
def test_the_fewest_images_are_those_that_can_keep_the_promise(target):
    count, options = fewest_images(target), {"target_acceptance": target, "conformal": True}
    fit_threshold(np.arange(float(count)), **options)
    if count > 1:
        with pytest.raises(InputError, match=f"from {count} at least"):
            fit_threshold(np.arange(count - 1.0), **options)


@pytest.mark.usefixtures("folder")
def test_a_failure_leaves_nothing_behind(monkeypatch, capsys):
    save(shifted(60), Path("photos"))

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert recalibrate("photos") == 1
    assert "new could not be written: No space left on device." in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.usefixtures("folder")
def test_no_threshold_is_made_from_images_that_were_trained_on(caplog):
    trained = [split_of_images().train[0], split_of_images().train[-1]]
    save(shifted(58), Path("photos"))
    save(IMAGES[trained], Path("photos/seen"))
    assert recalibrate("photos", "--accept", "0.9") == 0
    assert "the network was trained on 2 of 60 images, such as photos/seen/000.png" in caplog.text
    save(shifted(58), Path("new_alone"))
    old, new = osr.load("classifier"), osr.load("new")
    expected = old.predict("new_alone").scores
    assert_array_equal(new.scores[new.detector], expected)
    assert new.parts.detectors[new.detector][1].num_images == 58
    caplog.clear()
    save(IMAGES[split_of_images().val], Path("validation"))
    assert cli.main(["recalibrate", "classifier", "validation", "--accept", "0.5", "--out", "other"]) == 0
    assert "trained on" not in caplog.text


@pytest.mark.usefixtures("folder")
def test_images_that_were_all_trained_on_are_refused(capsys):
    save(IMAGES[split_of_images().train], Path("photos"))
    assert recalibrate("photos") != 0
    assert "photos: the network was trained on all 20 images" in capsys.readouterr().err
    assert not Path("new").exists()


@pytest.mark.usefixtures("folder")
def test_a_copy_counts_once(caplog):
    save(shifted(58), Path("photos"))
    for number in range(10):
        shutil.copyfile("photos/003.png", f"photos/copy {number}.png")
    assert recalibrate("photos", "--accept", "0.9") == 0
    assert "photos: 10 images are copies of others there, such as photos/copy 0.png" in caplog.text
    assert len(osr.load("new").scores["maxlogit"]) == 58
    shutil.rmtree("new")
    assert recalibrate("photos", "--accept", "0.985", "--rule", "conformal") == 1, "it would take 66 images"
