"""Candidate new classes: groups that are there are found, named, shown, and laid down as class folders."""

import csv
import errno
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from extracted import IMAGES, build, split_of_images
from PIL import Image
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, png, run  # noqa: F401 (fixtures)

import osr
from benchmarks.new_class import loop
from osr.data.files import list_folder
from osr.errors import InputError
from osr.inference.discovery import discover
from osr.params import load_params
from osr.stored.origin import Origin
from pipeline import cli

ROOT = Path(__file__).parents[1]


def three_groups(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (220, 16) of groups of 100, 60 and 40 around directions, of any length, and 20 of none."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2, -1], [100, 60, 40, 20])
    centres = np.eye(16)[[0, 5, 9]]
    points = np.where(truth[:, None] >= 0, centres[truth], 0) + rng.normal(size=(220, 16)) * 0.06
    points[truth < 0] = rng.normal(size=(20, 16))
    return (points * rng.uniform(0.5, 20, (220, 1))).astype(np.float32), truth


def test_groups_are_found_largest_first_whatever_their_order_and_lengths() -> None:
    features, truth = three_groups()
    found = discover(features, min_images=20)
    assert found.sizes.tolist() == pytest.approx([100, 60, 40], abs=2)
    inside = found.labels >= 0
    assert (found.labels == truth)[truth >= 0].mean() > 0.97
    assert inside[truth < 0].sum() <= 2
    assert (found.stability > 0.9).all()
    assert ((found.membership > 0) == inside).all()
    order = np.random.default_rng(1).permutation(len(features))
    again = discover(features[order], min_images=20)
    assert (again.labels == found.labels[order]).mean() > 0.98
    assert discover(features, min_images=20).stability.tolist() == found.stability.tolist()


def test_accepted_images_let_a_single_group_stand_out_and_take_what_is_theirs() -> None:
    features, truth = three_groups()
    strays = np.flatnonzero(truth == 0)[:30]  # rejected images of a known class
    is_rejected = (truth == 1) | (truth == -1)
    is_rejected[strays] = True
    found = discover(features[is_rejected], features[~is_rejected], min_images=20)
    assert found.sizes.tolist() == pytest.approx([60], abs=2)
    assert (truth[is_rejected][found.labels == 0] == 1).all()
    assert found.stability[0] > 0.9
    assert discover(features[truth == 1], min_images=20).sizes.tolist() == [], "nothing to stand out from"


def test_what_is_no_group_is_none_and_a_cut_through_noise_is_not_stable() -> None:
    features, truth = three_groups()
    assert discover(features[truth == 2], features[truth == 0], min_images=50).sizes.tolist() == []
    assert discover(features[:0], min_images=5).labels.tolist() == []
    noise = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    assert (discover(noise, min_images=5).stability < 0.75).all()
    for wrong, sentence in (((features, 1), "min_images is 1"), ((features[0], 5), "finite matrix")):
        with pytest.raises(InputError, match=sentence):
            discover(wrong[0], min_images=wrong[1])


@pytest.fixture(scope="module")
def model():
    """With the features of random convolutions, which tell patterns apart."""
    torch.set_num_threads(1)
    made = build(neck="identity")
    made.made_from = Origin(split=split_of_images().digest)
    return made


def pictures(where: str) -> None:
    """The 30 images that the detector was fitted to, and two kinds of 25 that are like none of them.

    In three folders, whose files have the same names.
    """
    rng = np.random.default_rng(0)
    kinds = (np.eye(6), np.indices((6, 6)).sum(0) % 2)
    unlike = [200 * kinds[number % 2] + rng.integers(0, 40, (6, 6)) for number in range(50)]
    for number, image in enumerate([*unlike, *IMAGES[..., 0]]):
        file = Path(where) / f"{number % 3}" / f"{number // 3:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(file)


JUDGE = ("--detector", "mahalanobis")


def find(*arguments: str, least: int = 15) -> int:
    return cli.main(["discover", "classifier", *arguments, "--min-images", str(least), "--out", "found"])


def kind_of(file: Path) -> bool:
    return bool(np.array(Image.open(file))[0, 1] > 100)


@pytest.mark.usefixtures("folder")
def test_candidates_become_class_folders_that_init_takes(capsys, caplog) -> None:
    pictures("new")
    Path("new/0/x.png").write_text("no image")
    files = sorted(Path("new").glob("?/[0-9]*.png"))
    judged = osr.load("classifier").predict(files, detector="mahalanobis")
    rejected = [name for name, label in zip(judged.names, judged.labels, strict=True) if label == "unknown"]
    assert len(rejected) == 60
    assert find("new", *JUDGE) == 1, "one could not be read"
    assert "new/0/x.png is no image that can be read" in caplog.text
    told = capsys.readouterr().out
    rows = list(csv.DictReader(Path("found/rejected.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == rejected
    assert "60 rejected images: 2 candidates for new classes, and 10 images in none.\n" in told
    page = Path("found/index.html").read_text()
    assert '<h2 id="no_candidate">In no candidate</h2>\n<p>10 images; the network takes ' in page
    with Image.open("found/no_candidate.png") as sheet:
        assert sheet.size == (10 * 80, 80)
    for name in ("candidate_1", "candidate_2"):
        own = [Path(row["file"]) for row in rows if row["candidate"] == name]
        copies = sorted(Path("found/classes", name).iterdir())
        assert sorted(file.read_bytes() for file in copies) == sorted(file.read_bytes() for file in own)
        assert (len(copies), len({kind_of(file) for file in copies})) == (25, 1)
        with Image.open(f"found/{name}.png") as sheet:
            assert sheet.size == (12 * 80, 3 * 80)
        assert f"{name}: 25 images, stability " in told
        assert f'<h2 id="{name}">{name}</h2>\n<p>25 images; stability ' in page
    settings = load_params(ROOT / "params.yaml").dataset
    listing = list_folder(settings.model_copy(update={"root": "found", "folder": "classes"}))
    assert listing.class_names == ("candidate_1", "candidate_2")
    assert len(listing.names) == 50
    assert not list(Path().glob(".found*"))
    assert find("new") == 1
    assert "found exists: choose another name, or remove it." in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_rows_of_a_table_are_taken_as_they_are(capsys) -> None:
    pictures("new")
    for form in ("csv", "parquet"):
        asked = ["--format", form, "--output", f"v.{form}"]
        assert cli.main(["predict", "new", "--model", "classifier", *JUDGE, *asked]) == 0
        assert find("--verdicts", f"v.{form}") == 0
        assert "60 rejected images: 2 candidates for new classes, and 10 images" in capsys.readouterr().out
        rows = list(csv.DictReader(Path("found/rejected.csv").read_text().splitlines()))
        table = list(csv.DictReader(Path("v.csv").read_text().splitlines()))
        assert [row["file"] for row in rows] == [row["file"] for row in table if row["label"] == "unknown"]
        shutil.rmtree("found")


@pytest.mark.usefixtures("folder")
def test_images_that_are_not_those_that_were_judged_are_noticed(capsys, caplog) -> None:
    pictures("new")
    assert cli.main(["predict", "new", "--model", "classifier", *JUDGE, "--output", "v.csv"]) == 0
    files = sorted(Path("new").glob("?/[0-9]*.png"))
    kept = files[0].read_bytes()
    Image.fromarray(np.full((6, 6), 7, np.uint8)).save(files[0])
    assert find("--verdicts", "v.csv") == 0
    told = f"v.csv is of other images: 1 of 80 files have other scores now, such as {files[0]}."
    assert told in caplog.text
    shutil.rmtree("found")
    files[0].write_bytes(kept)
    caplog.clear()
    assert find("--verdicts", "v.csv") == 0
    assert "other images" not in caplog.text
    shutil.rmtree("found")
    for file in files:
        Image.fromarray(255 - np.array(Image.open(file))).save(file)
    capsys.readouterr()
    assert find("--verdicts", "v.csv") == 1
    assert "of 80 files have other scores now" in capsys.readouterr().err
    assert not Path("found").exists()


@pytest.mark.usefixtures("folder")
def test_that_nothing_is_found_is_an_outcome(capsys) -> None:
    pictures("new")
    assert (
        cli.main(["predict", "new", "--model", "classifier", "--threshold", "1e9", "--output", "v.csv"]) == 0
    )
    Path("one").mkdir()
    shutil.copyfile("new/0/00.png", "one/a.png")
    for number, image in enumerate(np.random.default_rng(1).integers(0, 256, (12, 6, 6), np.uint8)):
        Path("noise").mkdir(exist_ok=True)
        Image.fromarray(image).save(f"noise/{number}.png")
    alike = "No candidate: among the {} rejected images no {} look alike enough to be one class.\n"
    more = "The images may be of many kinds, or too few of each. More judged images help.\nLook at found/"
    few = "the rejected images number 1, and --min-images is {}.\n"
    for arguments, least, rows, told in (
        (["new"], 60, 60, alike.format(60, 60) + "With --min-images 15 there should be 2, the largest"),
        (["noise"], 8, 12, alike.format(12, 8) + more),
        (["noise"], 12, 12, alike.format(12, 12) + "With --min-images 6 there is none, either. " + more),
        (["one"], 9, 1, few.format(9) + "More judged images help.\n"),
        (["one"], 10, 1, few.format(10) + "With --min-images 5 there is none, either. More judged"),
        (["--verdicts", "v.csv"], 15, 0, "No candidate: no image was rejected.\nLook at found/index.html; "),
    ):
        arguments += JUDGE if "--verdicts" not in arguments else ()
        assert find(*arguments, least=least) == 0
        assert told in capsys.readouterr().out
        table = list(csv.DictReader(Path("found/rejected.csv").read_text().splitlines()))
        assert [row["candidate"] for row in table] == [""] * rows
        page = Path("found/index.html").read_text()
        assert (page.count("<img"), page.count("Stability"), "No candidate: " in page) == (rows > 0, 0, True)
        assert not Path("found/classes").exists()
        shutil.rmtree("found")


@pytest.mark.usefixtures("folder")
def test_what_cannot_be_clustered_is_one_sentence(capsys, monkeypatch) -> None:
    pictures("new")
    Path("bad.csv").write_text("a,b\n1,2\n")
    png(Path("one/a.png"))
    Path("broken").mkdir()
    Path("broken/x.png").write_text("no image")
    pq.write_table(pa.table({"image": [Path("one/a.png").read_bytes()]}), "t.parquet")
    for arguments, sentence in (
        ([], "Name images to judge, or with --verdicts a file of `osr predict`, and not both."),
        (["new", "--verdicts", "bad.csv"], "and not both."),
        (["--verdicts", "gone.csv"], "gone.csv is missing"),
        (["--verdicts", "bad.csv"], "bad.csv holds no verdicts of `osr predict`"),
        (["--verdicts", "bad.csv", "--accept", "0.5"], "--detector and --accept do not go with --verdicts"),
        (["broken"], "broken holds no image that can be judged."),
        (["t.parquet"], "t.parquet:0 is no file: a candidate's folder holds copies of files."),
    ):
        assert find(*arguments) == 1, arguments
        assert sentence in capsys.readouterr().err
        assert not list(Path().glob("found*"))

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert find("new", *JUDGE) == 1
    assert "found could not be written: No space left on device." in capsys.readouterr().err
    assert not Path("found").exists()


@pytest.mark.slow
def test_a_class_that_was_left_out_is_found_named_and_learned(tmp_path: Path) -> None:
    """The loop of docs/discover.md, with a short training."""
    purity, learned = loop(tmp_path, ["-S", "train.epochs=12", "-S", "evaluate.bootstrap_replicates=100"])
    assert purity > 0.9
    assert learned > 0.3, "and these are the odd ones: the others were learned from"
