"""Command init: what it finds in a folder of photos, and the project that it lays down, or nothing."""

import csv
import errno
import fcntl
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from photo_folders import CLASSES, photo, tracks_of_photos
from ruamel.yaml import YAML

from osr.errors import InputError
from osr.params import load_params
from osr.splits.split import Split
from pipeline.cli import make_parser
from pipeline.prepare_split import prepare_split
from pipeline.starting import init
from pipeline.tracking.stage_run import Row
from pipeline.workspace import stages
from pipeline.workspace.git import git
from pipeline.workspace.shipped import version_text

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tracks_of_photos(tmp_path_factory.mktemp("data") / "my photos")


def start(*arguments):
    return init.run(make_parser().parse_args(["init", *map(str, arguments)]))


@pytest.fixture
def alone(monkeypatch):
    """Without git and DVC, which take seconds."""
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")


@pytest.mark.usefixtures("alone")
def test_it_says_what_it_found_and_the_first_stage_runs(photos, tmp_path, capsys, monkeypatch):
    assert start(photos, tmp_path / "project") == 0
    told = capsys.readouterr().out
    for text in (
        "75 images of 4 classes",
        "Straße (24)",
        "90 x 70 pixels, the smaller side 70 in the median; colour",
        "damaged and left out: 1: ",
        "005_9.png",
        "copies, pixel for pixel: 1",
        "names look like groups: 18, such as '000' with 4 images",
        "left out, with fewer than 3 images: rare",
        "rejection is estimated",
        f"cd {tmp_path / 'project'} && osr run",
    ):
        assert text in told
    assert not any(line.endswith(".") for line in told.splitlines() if "damaged and left out" in line)
    monkeypatch.chdir(tmp_path / "project")
    params = load_params(stages.PARAMS)
    assert set(params.split.known) == set(CLASSES)
    assert params.model.image_size == 96  # photos of 70 pixels are not blown up to more
    metrics = prepare_split(params, Row())
    assert metrics["classes"] == {"known": 3, "unknown": 0}
    assert metrics["images"]["test_unknown"] == 0
    assert metrics["odd_images"]["skipped"] == 1
    split = Split.load(stages.SPLIT)
    for name in CLASSES:
        rows = np.flatnonzero(split.targets == split.class_names.index(name))
        assert len(np.unique(split.groups[rows])) == 6


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--weights", "no.safetensors"), r"--weights no\.safetensors: no such file"),
        (("--backbone", "resnet19"), "resnet19"),
        (("--weights", __file__), "test_starting.py"),
    ],
)
def test_a_network_that_cannot_be_had_is_refused_before_anything_is_written(
    photos, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        start(photos, tmp_path / "project", *arguments)
    assert not (tmp_path / "project").exists()


@pytest.mark.usefixtures("alone")
def test_without_trained_weights_the_small_network_learns(photos, tmp_path, capsys):
    start(photos, tmp_path / "project", "--weights", "none")
    assert "network: small_convnet, from scratch\n" in capsys.readouterr().out
    params = load_params(tmp_path / "project" / "params.yaml")
    assert (params.model.image_size, params.detectors.openmax.tail_size) == (64, 3), (
        "files and few of a class"
    )
    start(photos, tmp_path / "other", "--weights", "none", "--preset", "photos_tune")
    assert "network: tf_efficientnet_lite0, from scratch, though" in capsys.readouterr().out


@pytest.mark.usefixtures("alone")
def test_names_that_look_like_groups_can_be_passed_over(photos, tmp_path, capsys):
    start(photos, tmp_path / "project", "--no-groups")
    assert "NAMES LOOK LIKE GROUPS: 4 images begin with '000'" in capsys.readouterr().out
    assert load_params(tmp_path / "project" / "params.yaml").dataset.group_pattern == "none"


@pytest.mark.usefixtures("alone")
def test_its_stages_rest_on_one_file_that_names_the_version(photos, tmp_path):
    start(photos, tmp_path / "project")
    ours, theirs = (
        YAML(typ="safe", pure=True).load((root / stages.DVC_FILE).read_text(encoding="utf-8"))
        for root in (ROOT, tmp_path / "project")
    )
    assert list(theirs["stages"]) == list(ours["stages"]) == list(stages.STAGES)
    for name, stage in theirs["stages"].items():
        code = [dep for dep in ours["stages"][name]["deps"] if dep.split("/")[0] in ("osr", "pipeline")]
        results = [dep for dep in ours["stages"][name]["deps"] if dep not in code]
        images = [str(photos)] if name == "prepare-split" else []
        assert stage["deps"] == ["osr.version", *images, *results]
        drawn = ("deps", "outs", "plots")
        assert {key: stage[key] for key in stage if key not in drawn} == {
            key: value for key, value in ours["stages"][name].items() if key not in drawn
        }
        paths = [
            sorted(path for out in [*held["outs"], *held.get("plots", [])] for path in out)
            for held in (stage, ours["stages"][name])
        ]
        assert paths[0] == paths[1]
    assert not [plot for plot in theirs["stages"]["plot"]["plots"] if "artifacts/curves/oscr" in plot]
    assert (tmp_path / "project" / "osr.version").read_text() == version_text()
    assert len((tmp_path / "project" / "README.md").read_text().splitlines()) <= 10


@pytest.mark.usefixtures("alone")
def test_a_flat_folder_of_unknown_images_is_tested(photos, tmp_path, monkeypatch):
    for number in range(5):
        photo(tmp_path / "others" / f"x {number}.jpg", number)
    start(photos, tmp_path / "project", "--unknown", tmp_path / "others")
    monkeypatch.chdir(tmp_path / "project")
    with Path("unknown.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 5
    metrics = prepare_split(load_params(stages.PARAMS), Row())
    assert metrics["unknown_sources"] == {"others": 5}
    assert load_params(stages.PARAMS).dataset.root == os.path.commonpath([photos.parent, tmp_path])
    assert "artifacts/curves/oscr" in Path("dvc.yaml").read_text()


@pytest.mark.usefixtures("alone")
def test_a_table_and_arrays(photos, tmp_path, monkeypatch, capsys):
    table = photos.parent / "labels.csv"
    names = sorted(path for name in CLASSES for path in (photos / name).glob("0*_[0-3].png"))
    lines = [f"{path.relative_to(photos.parent)},{path.parent.name},{path.stem[:3]}" for path in names]
    table.write_text("\n".join(["path,label,group", *lines]) + "\n", encoding="utf-8")
    start(table, tmp_path / "table")
    assert "LOOK LIKE GROUPS" not in capsys.readouterr().out  # the table says them
    images = np.zeros((30, 8, 8), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(30) % 3)
    start(tmp_path / "mine.npz", tmp_path / "arrays")
    for name, kind, backbone, threads in (
        ("table", "csv", "tf_efficientnet_lite0", "auto"),
        ("arrays", "arrays", "small_convnet", 1),
    ):
        monkeypatch.chdir(tmp_path / name)
        params = load_params(stages.PARAMS)
        assert (params.dataset.name, params.model.backbone.name) == (kind, backbone)
        assert params.train.cpu_threads == threads
        assert prepare_split(params, Row())["classes"] == {"known": 3, "unknown": 0}


def test_a_repository_is_made_and_a_first_commit(photos, tmp_path, monkeypatch, capsys):
    for key in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(key, raising=False)
    for place in ("HOME", "XDG_CONFIG_HOME"):  # git knows nobody there
        monkeypatch.setenv(place, str(tmp_path.parent / "nobody"))
    start(photos, tmp_path)
    assert "with a first commit, as nobody: `git config user.name`" in capsys.readouterr().out
    log = subprocess.run(
        ["git", "log", "--oneline"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert log.stdout.endswith("osr init\n")
    left = subprocess.run(
        ["git", "status", "--short"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert not left.stdout
    assert git("-C", str(tmp_path), "config", "user.email")
    assert "analytics = false" in (tmp_path / ".dvc" / "config").read_text()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("make", "arguments", "told"),
    [
        (lambda root: photo(root / "p" / "x.png", 1), ("PHOTOS", "p"), "must be empty, but holds x.png"),
        (lambda root: (root / "p").touch(), ("PHOTOS", "p"), "is a file; name a folder"),
        (lambda _root: None, ("nothing", "p"), "does not exist; name a folder of class folders"),
        (lambda root: (root / "a.txt").touch(), ("a.txt", "p"), "neither a folder of class folders"),
        (lambda _root: None, ("PHOTOS", "PHOTOS/p"), "choose another place"),
        (lambda _root: None, ("PHOTOS", "p", "--preset", "photo_probe"), "did you mean 'photos_probe'"),
        (lambda root: photo(root / "one" / "a" / "1.png", 1), ("one", "p"), "no two classes"),
        (
            lambda root: [photo(root / "one" / "a" / f"{number}.png", number) for number in range(3)],
            ("one/a", "p"),
            "If a is one of the classes, name the folder above it.",
        ),
        (lambda root: photo(root / "two" / "Unknown" / "1.png", 1), ("two", "p"), "and give it as --unknown"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_sentence_and_leaves_nothing(
    photos, tmp_path, monkeypatch, make, arguments, told
):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as error:
        start(*(text.replace("PHOTOS", str(photos)) for text in arguments))
    assert told in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert not (photos / "p").exists()


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("held", ["nothing", "an empty folder", "a folder with git", "folders above"])
def test_a_project_is_there_whole_or_not_at_all(photos, tmp_path, monkeypatch, raised, held):
    """Ended in its last step; what stood there before stays."""
    project = tmp_path / ("a/b/c" if held == "folders above" else "project")
    if held in ("an empty folder", "a folder with git"):
        project.mkdir()
    if held == "a folder with git":
        subprocess.run(["git", "init", "--quiet", project], check=True)

    def end(folder):
        (folder / ".dvc/tmp").mkdir(parents=True)
        (folder / ".dvc/config").write_text("")
        raise raised

    def held_now():
        return sorted(path for path in tmp_path.rglob("*") if ".git" not in path.parent.parts)

    before = held_now()
    monkeypatch.setattr(init, "start_repositories", end)
    with pytest.raises((KeyboardInterrupt, InputError)) as caught:
        start(photos, project)
    assert held_now() == before
    told = f"{project} could not be laid down: No space left on device; nothing of it is left."
    assert not isinstance(raised, OSError) or str(caught.value) == told
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    assert start(photos, project) == 0


@pytest.mark.parametrize("held", ["nothing", "an empty folder", "a folder with git"])
def test_what_a_killed_init_left_goes_with_the_next(photos, tmp_path, monkeypatch, held):
    project = tmp_path / "project"
    if held != "nothing":
        project.mkdir()
    if held == "a folder with git":
        subprocess.run(["git", "init", "--quiet", project], check=True)
        (project / ".git" / "theirs").touch()

    def killed(folder):
        (folder / ".dvc").mkdir()
        if held != "a folder with git":
            (folder / ".git").mkdir()
        os._exit(0)

    monkeypatch.setattr(init, "start_repositories", killed)
    if (pid := os.fork()) == 0:
        start(photos, project)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    with pytest.raises(InputError, match="Another `osr init` is laying down"), held_open(project):
        start(photos, project)
    assert start(photos, project) == 0
    assert (
        (project / ".git" / "theirs").exists() == (project / ".git").exists() == (held == "a folder with git")
    )
    assert not (project / ".dvc").exists()
    assert not (project / ".osr-init").exists()
    with pytest.raises(InputError, match=r"must be empty, but holds \.gitignore"):
        start(photos, project)


@contextmanager
def held_open(project):
    """As if the other one still ran."""
    with (project / ".osr-init").open() as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        yield
