"""Image files in stage prepare-split and after it: odd and bad ones, kept or packed, in batches."""

import csv
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import RNG, ROOT, animals, params, picture, section
from PIL import Image

from osr.data.batches import ArrayImages, TensorImages
from osr.data.corruptions import Corrupted
from osr.data.datasets import load_images
from osr.data.file_images import FileImages
from osr.data.images import ImageFiles
from osr.errors import InputError
from osr.frame import Frame
from osr.models.preprocess import frame_for
from osr.params import load_params
from osr.splits.split import Split
from pipeline.images import open_images, open_part, sample_images
from pipeline.prepare_split import prepare_split
from pipeline.report.cautions import unreadable
from pipeline.report.split_report import split_report
from pipeline.workspace.files import write_json
from pipeline.workspace.stages import BAD_IMAGES, IMAGE_FILES, IMAGES, ODD_IMAGES, SPLIT, STAGES
from pipeline.workspace.swap import new, written_aside


def odd_files(folder: Path) -> None:
    """One file of each kind beside ten ordinary ones."""
    for number in range(10):
        picture(folder / f"{number}.png", (16, 12))
    Image.open(folder / "0.png").convert("P").save(folder / "palette.png")
    picture(folder / "cmyk.jpg", mode="CMYK")
    picture(folder / "alpha.png", mode="RGBA")
    Image.fromarray(RNG.integers(0, 65536, (9, 9), dtype=np.uint16)).save(folder / "deep.png")
    picture(folder / "cut.jpg", (300, 300))
    content = (folder / "cut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    Image.new("1", (10_000, 10_001)).save(folder / "large.png")


def test_odd_files_are_named_and_bad_ones_decide(tmp_path: Path) -> None:
    odd_files(tmp_path / "images/cat")
    with pytest.raises(InputError) as error:
        load_images(section(tmp_path))
    text = str(error.value)
    assert text.startswith("dataset: 5 of 19 images cannot be read; mend or remove them, or set")
    for name in (
        "cut.jpg",
        "empty.png is empty",
        "text.jpg is no image that can be read: its format",
        "huge.png",
    ):
        assert name in text
    data = load_images(section(tmp_path, on_bad_image="skip"))
    assert len(data.targets) == 14
    odd = {image.name.rsplit("/", 1)[1]: (image.is_bad, image.problem) for image in data.odd}
    assert {name for name, (is_bad, _) in odd.items() if is_bad} == {
        "cut.jpg", "empty.png", "text.jpg", "huge.png", "large.png"
    }  # fmt: skip
    converted = {name: problem for name, (is_bad, problem) in odd.items() if not is_bad}
    assert converted == {
        "palette.png": "palette",
        "cmyk.jpg": "CMYK",
        "alpha.png": "transparent",
        "deep.png": "16-bit grey, 0..65535 read as 0..255",
    }
    assert isinstance(data.images, ImageFiles)
    assert {data.images[row].shape[2] for row in range(14)} == {3}


def test_all_bad_files_of_a_stage_that_stops_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    animals(tmp_path)
    for number in range(30):
        (tmp_path / f"images/cat/bad {number:02}.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"… and 10 more\.\n.*artifacts/bad_images.csv lists them all\.$"):
        prepare_split(params(tmp_path), None)
    with BAD_IMAGES.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == [f"images/cat/bad {number:02}.png" for number in range(30)]
    assert {line["kind"] for line in lines} == {"unreadable"}
    metrics = prepare_split(params(tmp_path, on_bad_image="skip"), None)
    assert metrics["odd_images"] == {"skipped": 30, "converted": 0}
    told = f"files that cannot be read as images, left out: 30, see {ODD_IMAGES}"
    assert caplog.messages.count(told) == 1
    assert [sentence.partition(":")[2][:4] for sentence in unreadable()] == [" 30."]
    assert not BAD_IMAGES.exists()


def test_16_bit_colours_are_named(tmp_path: Path) -> None:
    rows = np.zeros((2, 1 + 6 * 2), np.uint8)  # a filter byte and two pixels of three 16-bit channels a row
    rows[:, 1:] = 128
    head = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    (tmp_path / "images/cat").mkdir(parents=True)
    (tmp_path / "images/cat/deep.png").write_bytes(content)
    data = load_images(section(tmp_path))
    assert [image.problem for image in data.odd] == ["16-bit colours, their high bytes"]
    assert (data.images == 128).all()


def test_only_bad_images(tmp_path: Path) -> None:
    (tmp_path / "images/a").mkdir(parents=True)
    (tmp_path / "images/a/x.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of the 1 images can be read"):
        load_images(section(tmp_path, on_bad_image="skip"))


@pytest.mark.parametrize("pack_size", ["none", "auto"])
def test_the_stage_keeps_files_or_packs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack_size: str
) -> None:
    animals(tmp_path)
    far = picture(tmp_path / "far/new thing/x.png", (11, 7))
    monkeypatch.chdir(tmp_path)
    Image.open(tmp_path / "images/cat/no 0 é.png").convert("P").save(tmp_path / "images/cat/p.png")
    settings = params(
        tmp_path, pack_size=pack_size, unknown_sources=({"source": "far", "name": "folder", "folder": "far"},)
    )
    metrics = prepare_split(settings, None)
    assert metrics["images"]["test_unknown"] == 9
    assert metrics["unknown_sources"] == {"held_out": 8, "far": 1}
    assert metrics["odd_images"] == {"skipped": 0, "converted": 1}
    assert ODD_IMAGES.read_text().splitlines()[1] == "images/cat/p.png,converted,palette"
    assert "files that were converted, skipped or passed over" in split_report()
    assert not unreadable(), "what was converted is used"
    assert (IMAGES.is_file(), IMAGE_FILES.is_file()) == ((pack_size == "auto"), (pack_size == "none"))
    images = open_images()
    assert len(images) == 26
    if pack_size == "none":
        assert (images[25] == far).all()
    split = Split.load(SPLIT)
    data = open_part(split, split.train, frame=Frame(6), num_workers=0)
    assert len(data) == len(split.train)
    assert sample_images(split.train, lambda: Frame(6)).shape[3] == 3
    assert [len(labels) for _, labels in data.batches(5)][:-1] == [5] * ((len(data) - 1) // 5)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_images_of_the_split_that_are_damaged_or_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    animals(tmp_path)
    monkeypatch.chdir(tmp_path)
    prepare_split(params(tmp_path), None)
    whole, split = IMAGES.read_bytes(), Split.load(SPLIT)
    shape = np.load(IMAGES).shape
    for content in (
        b"", b"no array", whole[:50], whole[:-5], whole[:6] + b"9" + whole[7:], npy(np.zeros(shape)),
        npy(np.zeros(shape[:3], np.uint8)), npy(np.array("text")), npy(np.array([None], object)),
    ):  # fmt: skip
        IMAGES.write_bytes(content)
        with pytest.raises(
            InputError, match=r"images\.npy is damaged, or of another version of osr \(no images"
        ):
            open_images()
    IMAGES.write_bytes(npy(np.zeros((shape[0] - 1, *shape[1:]), np.uint8)))
    with pytest.raises(InputError, match=f"divides {shape[0]} images, but {shape[0] - 1} lie beside it"):
        open_part(split, split.train, frame=Frame(6), num_workers=0)
    IMAGES.unlink()
    head = {"root": ".", "channels": 3, "max_pixels": 100}
    for lines in (["nothing"], [head | {"root": 5}], [{}], [head, 5], [head, ["a"]], [head, "a", None], [[]]):
        IMAGE_FILES.write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(InputError, match=r"files\.jsonl is damaged, or of another version of osr"):
            open_images()


def test_nothing_of_an_earlier_split_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animals(tmp_path)
    (tmp_path / "images/cat/bad.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for settings in (params(tmp_path, pack_size="none", on_bad_image="skip"), params(tmp_path)):
        with written_aside("prepare-split"):
            write_json(new(STAGES["prepare-split"].metrics), prepare_split(settings, None))
        (tmp_path / "images/cat/bad.png").unlink(missing_ok=True)
    assert not IMAGE_FILES.exists()
    assert not ODD_IMAGES.exists()
    assert isinstance(open_images(), np.ndarray)


def stored(tmp_path: Path, num_workers: int, count: int = 23) -> FileImages:
    names = []
    for number in range(count):
        path = tmp_path / f"{number}.png"
        if not path.exists():
            Image.fromarray(np.full((10, 10, 3), number * 10, np.uint8)).save(path)
        names.append(path.name)
    files = ImageFiles(tmp_path, np.array(names), 3)
    return FileImages(files, np.arange(count), torch.arange(count) % 4, Frame(10), num_workers)


MANY = {"min_crop_area": 0.3, "flip": True, "mixup_alpha": 0.4, "randaugment_num_ops": 1}


@pytest.mark.parametrize("on", [{}, MANY])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, on: dict) -> None:
    train = load_params(ROOT / "params.yaml").train
    augmentation = train.augmentation.model_copy(update=on)
    train = train.model_copy(update={"batch_size": 8, "augmentation": augmentation})
    passes = [list(stored(tmp_path, workers).epoch_batches(train, epoch=2)) for workers in (0, 2)]
    for other in passes[1:]:
        for (images, labels), (same_images, same_labels) in zip(passes[0], other, strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)
    assert not torch.equal(passes[0][0][0], next(iter(stored(tmp_path, 0).epoch_batches(train, epoch=3)))[0])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 4, 22, 23])
def test_a_pass_goes_on_at_any_image_also_behind_the_last(
    tmp_path: Path, start: int, num_workers: int
) -> None:
    """A stage that was ended behind its last image has none to read when it goes on."""
    files = stored(tmp_path, num_workers)
    array = np.concatenate([images.numpy().transpose(0, 2, 3, 1) for images, _ in files.batches(4)])
    memory = ArrayImages(array, np.arange(23), files.labels)
    tensors = memory.to(torch.device("cpu"))
    corrupted = Corrupted(files, np.arange(23), "noise", 1, 0)
    for data in (files, memory, tensors, corrupted):
        batches = list(data.batches(4, start=start))
        assert [len(labels) for _, labels in batches] == [min(4, 23 - at) for at in range(start, 23, 4)]
        assert [len(images) for images, _ in batches] == [len(labels) for _, labels in batches]
        assert [label for _, labels in batches for label in labels.tolist()] == files.labels[start:].tolist()


def test_files_and_memory_give_the_same_batches(tmp_path: Path) -> None:
    train = load_params(ROOT / "params.yaml").train.model_copy(update={"batch_size": 8})
    data = stored(tmp_path, 0)
    pixels = torch.cat([images for images, _ in data.batches(4)])
    assert pixels[:, 0, 0, 0].tolist() == [number * 10 for number in range(23)]
    memory = TensorImages(pixels, data.labels)
    for (images, labels), (others, other_labels) in zip(
        data.epoch_batches(train, epoch=1), memory.epoch_batches(train, epoch=1), strict=True
    ):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)


def test_files_need_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animals(tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = params(tmp_path, pack_size="none")
    prepare_split(settings, None)
    model = settings.model.model_copy(update={"image_size": "auto"})
    with pytest.raises(InputError, match=r"model.image_size is 'auto', but must be a number of pixels"):
        sample_images(np.arange(3), lambda: frame_for(model, None))
