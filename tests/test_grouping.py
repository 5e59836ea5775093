"""Groups of image files by their paths, and that they stay in one part."""

from pathlib import Path

import numpy as np
import pytest
from datasets import SHIPPED
from PIL import Image

from osr.data.datasets import load_images
from osr.data.settings import DatasetSettings
from osr.errors import InputError
from osr.splits.division import make_split
from osr.splits.split import PARTS

PATIENTS, FRAMES = 5, 4


def write_frames(root: Path, *, folders: bool) -> None:
    """Frames of patients, whose names say which, or which stand in a folder each."""
    generator = np.random.default_rng(0)
    for label in ("cat", "dog", "eel"):
        for patient in range(PATIENTS):
            for frame in range(FRAMES):
                name = f"p{patient}/{frame}.png" if folders else f"p{patient}_{frame}.png"
                path = root / "images" / label / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)


def section(root: Path, **changes: object) -> DatasetSettings:
    return DatasetSettings(**SHIPPED | {"name": "folder", "root": str(root)} | changes)


@pytest.mark.parametrize(
    ("folders", "pattern", "num_groups"),
    [
        (True, "subfolder", 3 * PATIENTS),
        (False, r"(\w+)/p(\d)_", 3 * PATIENTS),
        (False, r"p(\d)_", PATIENTS),  # a patient stands in all classes
        (False, r"/p(?:(0)_|.*)", 2),
    ],
)
def test_files_are_grouped_by_their_paths(
    tmp_path: Path, folders: bool, pattern: str, num_groups: int
) -> None:
    write_frames(tmp_path, folders=folders)
    data = load_images(section(tmp_path, group_pattern=pattern))
    assert len(np.unique(data.groups)) == num_groups
    assert load_images(section(tmp_path)).groups is None


def test_groups_of_a_folder_stay_in_one_part(tmp_path: Path) -> None:
    write_frames(tmp_path, folders=True)
    picture = tmp_path / "images/cat/alone.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(picture)
    data = load_images(section(tmp_path, group_pattern="subfolder"))
    assert sorted(np.bincount(data.groups).tolist()) == [1] + [FRAMES] * 3 * PATIENTS
    split = make_split(
        data.targets,
        data.class_names,
        known=[0, 1],
        unknown=[2],
        val_fraction=0.2,
        test_fraction=0.2,
        seed=1,
        groups=data.groups,
    )
    groups = [set(data.groups[split.rows(part)].tolist()) for part in PARTS]
    assert sum(map(len, groups)) == len(set.union(*groups))


def test_a_table_takes_a_pattern_instead_of_a_column(tmp_path: Path) -> None:
    write_frames(tmp_path, folders=False)
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    lines = [f"{path},{path.parent.name},{number}" for number, path in enumerate(paths)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label,group", *lines]))
    given = {"name": "csv", "group_pattern": r"p(\d)_"}
    with pytest.raises(InputError, match=r"group_pattern is .*, but dataset.csv.group names a column"):
        load_images(section(tmp_path, **given))
    csv = SHIPPED["csv"] | {"group": "none"}
    assert len(np.unique(load_images(section(tmp_path, **given, csv=csv)).groups)) == PATIENTS
    with pytest.raises(InputError, match="a csv has no class folders"):
        load_images(section(tmp_path, name="csv", group_pattern="subfolder", csv=csv))


def test_patterns_that_fit_nothing_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path, folders=False)
    with pytest.raises(InputError, match=r"'p\[0-3\]' is not found in 'images/cat/p4_0.png'"):
        load_images(section(tmp_path, group_pattern="p[0-3]"))
    with pytest.raises(InputError, match="no class folder has a sub-folder"):
        load_images(section(tmp_path, group_pattern="subfolder"))
    with pytest.raises(ValueError, match="which is no regular expression"):
        section(tmp_path, group_pattern="p(")
