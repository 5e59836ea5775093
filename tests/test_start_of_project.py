"""What a project of init rests on: its version, osr's own files, its weights; tracks seen in names."""

import re
import tomllib
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import photo
from ruamel.yaml import YAML

from osr.errors import InputError
from osr.params import load_params
from osr.splits.split import Split
from pipeline.cli import main
from pipeline.experiments import launch
from pipeline.experiments.preset import load_presets
from pipeline.prepare_split import prepare_split
from pipeline.starting import init
from pipeline.starting.files import write_stages
from pipeline.starting.look import groups_in_names
from pipeline.starting.settings import BEFORE_LAST_NUMBER, unknown_source
from pipeline.tracking.stage_run import Row
from pipeline.workspace import shipped as shipped_module
from pipeline.workspace import stages
from pipeline.workspace.shipped import check_version, shipped, shipped_in, version_text

ROOT = Path(__file__).parents[1]


@settings(max_examples=25)
@given(
    st.integers(2, 9), st.integers(3, 9), st.sampled_from(["{:03d}_{:02d}.png", "t{} {}.jpg", "{}/{}.png"])
)
def test_tracks_are_seen_in_names(tracks, frames, form):
    names = [[form.format(track, frame) for track in range(tracks) for frame in range(frames)]] * 2
    found = groups_in_names(names)
    assert (found.images, found.number, found.fewest) == (frames, 2 * tracks, tracks)
    paths = [f"top/class/{name}" for name in names[0]]
    kept = [re.search(BEFORE_LAST_NUMBER, path)[1] for path in paths]
    assert [kept.index(text) // frames for text in kept] == [row // frames for row in range(len(paths))]


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 10**6), min_size=4, max_size=40, unique=True),
    st.sampled_from(["IMG_{}", "{}", "x{}y"]),
)
def test_numbered_photos_are_no_tracks(numbers, form):
    assert groups_in_names([[f"{form.format(number)}.jpg" for number in numbers]] * 2) is None


def test_folders_that_may_be_no_class_are_remarked_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    for number in range(12):
        photo(tmp_path / "photos" / ("cat", "Others", "mother")[number % 3] / f"{number}.png", number)
    (tmp_path / "photos" / "zebra").mkdir()
    assert main(["init", str(tmp_path / "photos"), str(tmp_path / "p")]) == 0
    told = capsys.readouterr().out
    assert "  left out, with fewer than 3 images: zebra (none)\n" in told
    assert "  learned as one known class: Others; if its images fit no class, move" in told


def test_folders_in_classes_are_asked_about(tmp_path, capsys, monkeypatch):
    """A folder too high would make classes of what holds them."""
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    for number in range(24):
        photo(tmp_path / "all" / ("known/cat", "known/dog", "others")[number % 3] / f"{number}.png", number)
    assert main(["init", str(tmp_path / "all"), str(tmp_path / "p")]) != 0
    told = capsys.readouterr().err
    assert "known holds its images in folders (cat, dog). If these are the classes: " in told
    assert f"`osr init {tmp_path / 'all' / 'known'}`" in told
    assert not (tmp_path / "p").exists()
    assert main(["init", "--groups", str(tmp_path / "all"), str(tmp_path / "p")]) != 0
    assert (
        "known has 16 images in 2 folders of its own, but needs all in at least 4" in capsys.readouterr().err
    )
    assert main(["init", "--no-groups", str(tmp_path / "all"), str(tmp_path / "p")]) == 0
    assert load_params(tmp_path / "p" / "params.yaml").dataset.group_pattern == "none"
    assert main(["init", str(tmp_path / "all" / "known"), str(tmp_path / "q")]) == 0


def test_known_images_are_not_the_unknown_ones(tmp_path, capsys):
    photos = tmp_path / "photos"
    photo(photos / "a" / "1.png", 1)
    for unknown in (photos, photos / "a", tmp_path):
        assert main(["init", str(photos), str(tmp_path / "p"), "--unknown", str(unknown)]) != 0
        assert "hold the same images" in capsys.readouterr().err


def test_a_folder_above_the_only_folder_of_classes_is_asked_about(tmp_path, capsys):
    for number in range(8):
        photo(tmp_path / "all" / ("known/cat", "known/dog")[number % 2] / f"{number}.png", number)
    assert main(["init", str(tmp_path / "all"), str(tmp_path / "p")]) != 0
    assert f"`osr init {tmp_path / 'all' / 'known'}`" in capsys.readouterr().err


def test_folders_in_classes_stay_whole_where_they_are_groups(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    for number in range(60):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"box {number // 2 % 6}" / f"{number}.png", number)
    assert main(["init", "--groups", str(tmp_path / "photos"), str(tmp_path / "p")]) == 0
    assert "  folders in classes: 12; each stays in one part" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "p")
    prepare_split(load_params(stages.PARAMS), Row())
    split = Split.load(stages.SPLIT)
    assert {len(np.unique(split.groups[split.targets == number])) for number in (0, 1)} == {6}


def test_groups_that_are_not_there_are_not_promised(tmp_path, capsys):
    for number in range(12):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    assert main(["init", "--groups", str(tmp_path / "photos"), str(tmp_path / "p")]) != 0
    assert "look like no groups" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "source"),
    [("others", "others"), ("my others", "my_others"), ("held_out", "unknown"), ("Ünbekannt", "nbekannt")],
)
def test_an_unknown_set_is_called_like_its_folder(tmp_path, folder, source):
    photo(tmp_path / folder / "1.png", 1)
    assert unknown_source(tmp_path / folder, tmp_path, tmp_path / "t.csv")["source"] == source


def test_another_version_is_refused_by_a_stage_and_written_by_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_version()  # a clone has no such file
    stages.VERSION_FILE.write_text("osr 0.0.1\n")
    with pytest.raises(InputError, match=r"'osr 0\.0\.1', but osr .* is installed: `osr run` writes"):
        check_version()
    launch.renew_version()
    check_version()


def test_presets_of_osr_are_there_in_a_project_of_init_beside_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with pytest.raises(InputError, match="no preset 'photos_probe'"):
        load_presets(["photos_probe"])
    stages.VERSION_FILE.write_text(version_text())
    Path("presets").mkdir()
    Path("presets/mine.yaml").write_text("train: {epochs: 3}\n")
    assert load_presets(["photos_probe", "mine"])["train"]["epochs"] == 3


def test_a_wheel_brings_what_init_lays_down(tmp_path, monkeypatch):
    """What pyproject.toml lists is all there is, and is found where a wheel puts it."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    listed = {name for pattern in content["share/osr"] for name in [pattern]}
    assert listed == {"params.yaml", "dvc.yaml", "requirements.txt"}
    assert content["share/osr/presets"] == ["presets/*.yaml"]

    class Installed(PurePosixPath):
        def locate(self):
            return tmp_path / "env" / str(self).removeprefix("../../../")

    names = [*listed, *(f"presets/{path.name}" for path in shipped_in("presets"))]
    for name in names:
        path = tmp_path / "env" / "share" / "osr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((ROOT / name).read_bytes())
    own = [path.name for path in shipped_in("presets")]
    monkeypatch.setattr(shipped_module, "CLONE", tmp_path / "site-packages")
    monkeypatch.setattr(
        shipped_module, "files", lambda _name: [Installed(f"../../../share/osr/{n}") for n in names]
    )
    assert shipped("params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    assert [path.name for path in shipped_in("presets")] == own
    with pytest.raises(InputError, match="install it again"):
        shipped("nothing.yaml")


def test_the_first_training_rests_on_the_weights_it_is_given(tmp_path):
    weights = str(tmp_path / "w.safetensors")
    for named, rests in ((weights, True), ("pretrained", False), ("none", False)):
        write_stages(tmp_path, [tmp_path / "photos"], weights=named, has_unknowns=True)
        found = YAML(typ="safe").load(tmp_path / "dvc.yaml")["stages"]
        assert [name for name in found if named in found[name]["deps"]] == ["train"] * rests


def test_an_image_in_two_classes_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(init, "start_repositories", lambda _project: "nothing")
    for number in range(6):
        for name in "ab":
            photo(tmp_path / "photos" / name / f"{number}.png", number // (1 + (name == "b")))
    (tmp_path / "photos" / "a" / "broken.png").write_bytes(b"no image")
    assert main(["init", str(tmp_path / "photos"), str(tmp_path / "p")]) == 0
    told = capsys.readouterr().out
    assert "  12 images of 2 classes in " in told  # without the one that cannot be read
    assert "  IMAGES IN SEVERAL CLASSES, pixel for pixel: 3; one label" in told


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(["--list"], "holds no NAME.yaml here"), ([], "Name a preset")]
)
def test_presets_outside_of_a_project_are_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["preset", *arguments]) == 1
    told = capsys.readouterr()
    assert (told.out, sentence in told.err) == ("", True)
