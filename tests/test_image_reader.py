"""The reader of image files: what it makes of each kind, and that damage of any kind is one sentence."""

import io
import os
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from osr.data.file_images import FileImages
from osr.data.image_files import quiet_decoders, read_head, read_image, read_picture
from osr.data.images import ImageFiles, ImageSet
from osr.errors import InputError
from osr.frame import Frame
from osr.inference.inputs import batches_of

FORMATS = {
    "png": {},
    "jpeg": {"quality": 90},
    "tiff": {},
    "webp": {},
    "avif": {},
    "gif": {},
    "bmp": {},
    "ppm": {},
}
TRIALS = 60  # of each format


def photo(width: int, height: int) -> Image.Image:
    """Smooth, as photos are: what a JPEG keeps."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 97 + k) * np.cos(columns / 131 - k) for k in range(3)]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8))


def written(kind: str, **options: object) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    photo(40, 30).save(
        file, kind, **({"exif": exif} if kind in ("png", "jpeg", "tiff", "webp", "avif") else {}), **options
    )
    return file.getvalue()


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, mostly where the headers are; cut out, doubled, or cut short."""
    changed = bytearray(content)
    head = min(len(changed), 400)
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(head if rng.random() < 0.8 else len(changed)))
        changed[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)]))
    way, start = rng.random(), int(rng.integers(head))
    if way < 0.15:
        del changed[start : start + int(rng.integers(1, 30))]
    elif way < 0.3:
        changed[start:start] = changed[start : start + 16]
    elif way < 0.45:
        del changed[int(rng.integers(1, len(changed))) :]
    return bytes(changed)


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_of_any_kind_is_one_sentence_with_the_path(tmp_path: Path, kind: str) -> None:
    rng, whole, outcomes = np.random.default_rng(7), written(kind, **FORMATS[kind]), Counter()
    path = tmp_path / f"x.{kind}"
    path.write_bytes(whole)
    assert read_image(path, channels=3).shape[2] == 3
    for _ in range(TRIALS):
        path.write_bytes(mutated(whole, rng))
        with quiet_decoders():
            try:
                read_head(path, max_pixels=10**6)
                pixels = read_image(path, channels=3, max_pixels=10**6)
                outcomes[pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3] += 1
            except InputError as error:
                outcomes[str(error).startswith(str(path)) and str(error).endswith(".")] += 1
    assert outcomes == {True: TRIALS}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_is_cut_short_is_not_read(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / f"x.{kind}", written(kind, **FORMATS[kind])
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with quiet_decoders(), pytest.raises(InputError, match="is no image that can be read"):
            read_image(path, channels=3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_is_cut_short_and_given_an_end_is_not_read(tmp_path: Path, mode: str) -> None:
    """Decoders fill the rest with grey; a photo of grey pixels is whole."""
    path, rng = tmp_path / "x.jpg", np.random.default_rng(4)
    kinds = ({}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}, {"progressive": True})
    for options in kinds:
        noisy = np.asarray(photo(80, 64).convert(mode)) // 2 + rng.integers(0, 80, dtype=np.uint8)
        grey = noisy.copy()
        grey[32:] = 128 if mode != "CMYK" else (127, 127, 127, 127)
        for pixels in (noisy, grey):
            file = io.BytesIO()
            Image.fromarray(pixels, mode).save(file, "jpeg", exif=tiny_jpeg_inside(), **options)
            whole = file.getvalue()
            for behind in (b"", b"another \xff\xd9"):
                path.write_bytes(whole + behind)
                for at_least in (None, 8):
                    read_image(path, channels=3, at_least=at_least)
        head = whole.index(
            b"\xff\xc2" if "progressive" in options else b"\xff\xc0", len(tiny_jpeg_inside().tobytes())
        )
        first = whole.index(b"\xff\xda", head) + 14
        last = whole.index(b"\xff\xc4", first) if "progressive" in options else len(whole) - 60
        for place in rng.integers(first, last, 3):
            path.write_bytes(whole[:place] + b"\xff\xd9")
            for at_least in (None, 8):
                with pytest.raises(InputError, match=r"x\.jpg is cut short: its last pixels are not in it"):
                    read_image(path, channels=3, at_least=at_least)


def tiny_jpeg_inside() -> Image.Exif:
    """A preview with an end marker of its own, as cameras write it."""
    file, exif = io.BytesIO(), Image.Exif()
    photo(8, 8).save(file, "jpeg")
    exif[0x927C] = file.getvalue()
    return exif


@pytest.mark.parametrize(
    "raised", [struct.error("short"), RuntimeError(""), MemoryError(), KeyError("x"), SyntaxError("y")]
)
def test_whatever_a_decoder_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    path = tmp_path / "x.png"
    photo(4, 4).save(path)

    def load(_image: Image.Image) -> None:
        raise raised

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(InputError, match=r"x\.png is no image that can be read: .*\w.*\.$"):
        read_image(path, channels=1)


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, said in [
        (tmp_path / "pipe.png", "is a pipe, a socket or a device"),
        (Path("/dev/zero"), "is a pipe, a socket or a device"),
        (tmp_path, "is a folder, not an image"),
        (tmp_path / "gone.png", "does not exist"),
        (tmp_path / "sub\\gone.png", r"does not exist; folders are parted by /"),
        (tmp_path / "zero\0byte.png", "embedded null byte"),
        (tmp_path / ("long" * 99), "File name too long"),
    ]:
        for read in (read_head, lambda path: read_image(path, channels=1)):
            with pytest.raises(InputError, match=said):
                read(path)


def test_one_limit_of_pixels(tmp_path: Path) -> None:
    photo(30, 20).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", channels=1, max_pixels=600).shape == (20, 30, 1)
    for read in (read_head, lambda path, **limit: read_image(path, channels=1, **limit)):
        with pytest.raises(InputError, match=r"x\.png has 600 pixels, above dataset\.max_pixels, 599\."):
            read(tmp_path / "x.png", max_pixels=599)


def png_of(width: int, height: int, rows: bytes, *, kind: int = 2, interlaced: int = 0) -> bytes:
    """A PNG whose checksums are right, whatever its rows hold."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + name + content + zlib.crc32(name + content).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, kind, 0, 0, interlaced])
    packed = zlib.compress(rows)
    half = len(packed) // 2
    parts = (chunk(b"IDAT", packed[:half]), chunk(b"IDAT", packed[half:]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(1, 90_000_000), (90_000_000, 1), (20, 20_001), (2001, 2)])
def test_a_line_of_pixels_is_no_picture(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png_of(width, height, bytes(1000)))
    for read in (read_head, lambda path: read_image(path, channels=3)):
        with pytest.raises(InputError, match=r"x\.png has .* pixels, but a side must be at most 1,000 times"):
            read(path)


def test_sides_of_arrays_follow_the_same_rule() -> None:
    names = ("a", "b")
    for shape in ((2, 8, 0, 1), (2, 0, 8, 3), (2, 1, 1001, 1)):
        with pytest.raises(InputError, match=r"each image of the array has .* pixels, but"):
            ImageSet(np.zeros(shape, np.uint8), np.arange(2), names)
    ImageSet(np.zeros((2, 1, 1000, 1), np.uint8), np.arange(2), names)
    with pytest.raises(InputError, match=r"image 0 has 1 x 1,001 pixels"):
        batches_of([np.zeros((1001, 1, 1), np.uint8)], channels=1, batch_size=2)


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("kind", "samples"), [(0, 1), (2, 3), (3, 1), (4, 2), (6, 4)])
def test_a_png_whose_rows_end_early_is_not_judged(
    tmp_path: Path, kind: int, samples: int, interlaced: int
) -> None:
    """Pillow gives it, with black rows; one whose last rows are black is whole."""
    path, width, height = tmp_path / "x.png", 9, 7
    if interlaced:
        passes = ((2, 1), (1, 1), (3, 1), (2, 2), (5, 2), (4, 4), (9, 3))
        rows = b"".join((b"\0" + bytes(columns * samples)) * count for columns, count in passes)
    else:
        rows = (b"\0" + bytes(width * samples)) * height
    palette = b"\0\0\0\x03PLTE\1\2\3" + zlib.crc32(b"PLTE\1\2\3").to_bytes(4)
    for content, is_whole in ((rows, True), (rows + b"more", True), (rows[:-1], False), (rows[:9], False)):
        made = png_of(width, height, content, kind=kind, interlaced=interlaced)
        path.write_bytes(made.replace(made[33:37], palette + made[33:37], 1) if kind == 3 else made)
        if is_whole:
            assert read_image(path, channels=3).shape == (height, width, 3)
        else:
            with pytest.raises(
                InputError, match=r"x\.png (is cut short: it holds|is no image that can be read)"
            ):
                read_image(path, channels=3)


@pytest.mark.parametrize(("values", "bits"), [
    ([0, 255], 8), ([0, 256], 10), ([5, 4095], 12), ([1, 16383], 14), ([0, 57500], 16), ([0, 70000], 18),
])  # fmt: skip
def test_grey_of_any_depth_is_scaled_by_its_range(tmp_path: Path, values: list[int], bits: int) -> None:
    top, kind = 2**bits - 1, np.uint16 if bits <= 16 else np.int32
    Image.fromarray(np.array([values], kind)).save(tmp_path / "x.tif")
    picture = read_picture(tmp_path / "x.tif", channels=1)
    assert picture.converted == f"{bits}-bit grey, 0..{top} read as 0..255"
    assert picture.pixels[0, :, 0].tolist() == [value * 255 // top for value in values]
    assert picture.pixels.max() > 60  # not nearly black


def test_heic_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(InputError, match="it is HEIC, which Pillow does not decode; save it as JPEG or PNG"):
        read_image(tmp_path / "x.jpg", channels=3)


def test_orientation_turns_the_size_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    photo(12, 8).save(tmp_path / "x.jpg", exif=exif)
    assert read_head(tmp_path / "x.jpg").size == (8, 12)
    assert read_image(tmp_path / "x.jpg", channels=3).shape == (12, 8, 3)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_jpeg_is_decoded_as_large_as_needed(tmp_path: Path, mode: str) -> None:
    path, channels = tmp_path / "x.jpg", 1 if mode == "L" else 3
    photo(1600, 1200).convert(mode).save(path, quality=95)
    whole = read_image(path, channels=channels)
    small = read_image(path, channels=channels, at_least=64)
    assert (whole.shape[:2], small.shape[:2]) == ((1200, 1600), (150, 200))
    frame = Frame(64)
    difference = frame.fit_one(whole).int() - frame.fit_one(small).int()
    assert difference.abs().max() <= 3
    assert read_image(path, channels=channels, at_least=1000).shape == whole.shape


def test_batches_of_large_files_are_small_and_crops_keep_their_detail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(1600, 1200).save(tmp_path / "x.jpg", quality=95)
    sizes, read = [], ImageFiles.read

    def watched(files: ImageFiles, row: int, **options: int) -> np.ndarray:
        pixels = read(files, row, **options)
        sizes.append(pixels.shape[:2])
        return pixels

    monkeypatch.setattr(ImageFiles, "read", watched)
    files = ImageFiles(tmp_path, np.array(["x.jpg"]), 3)
    data = FileImages(files, np.array([0]), torch.tensor([0]), Frame(64), 0)
    assert data.read(torch.tensor([0])).shape == (1, 3, 64, 64)
    data.read(torch.tensor([0]), torch.tensor([1]), 0.04)
    assert sizes == [(150, 200), (1200, 1600)]
