"""Files of every mode become pixels."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from test_extraction import IMAGES
from test_predict import load, model, png, run  # noqa: F401 (fixtures)

from osr.data.file_images import read_fitted
from osr.data.image_files import read_image
from osr.data.walking import find_images
from osr.errors import InputError
from pipeline import cli


def test_files_of_every_mode_become_pixels(tmp_path):
    grey = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
    made = {
        mode: Image.fromarray(grey).convert(mode) for mode in ("1", "L", "P", "RGB", "CMYK", "LA", "RGBA")
    }
    made["I;16"] = Image.fromarray(grey.astype(np.uint16) * 257)
    for mode, image in made.items():
        path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
        image.save(path)
        for channels in (1, 3):
            pixels = read_image(path, channels=channels)
            assert (pixels.shape, pixels.dtype) == ((12, 20, channels), np.uint8)
            if mode != "1":
                assert np.abs(pixels[..., 0].astype(int) - grey).max() <= 1, mode
    assert find_images([tmp_path])[0] == [tmp_path / "x.png", tmp_path / "x.tif"]


def test_transparency_is_white_and_orientation_is_upright(tmp_path):
    clear = np.zeros((4, 6, 4), np.uint8)
    clear[0, 0] = [10, 20, 30, 255]
    Image.fromarray(clear).save(tmp_path / "clear.png")
    pixels = read_image(tmp_path / "clear.png", channels=3)
    assert_array_equal(pixels[0, 0], [10, 20, 30])
    assert (pixels[1:] == 255).all()

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(clear[..., :3]).save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", channels=1).shape == (6, 4, 1)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [(np.full((2, 2), -1, np.int32), "from -1 to -1"), (np.ones((2, 2), np.float32), "floating-point")],
)
def test_pixels_without_a_range_are_refused(tmp_path, pixels, sentence):
    Image.fromarray(pixels).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=sentence):
        read_image(tmp_path / "x.tif", channels=1)


@pytest.mark.usefixtures("run")
def test_large_images_are_as_small_as_the_network_takes_them():
    predictor = load()
    frame, large = predictor.image_format.frame, np.kron(IMAGES[3], np.ones((40, 40, 1), np.uint8))
    for pixels, shape in [(large, (frame.size, frame.size, 1)), (IMAGES[3], IMAGES[3].shape)]:
        Image.fromarray(pixels[..., 0]).save("x.png")
        fitted = read_fitted(Path("x.png"), frame, channels=1).pixels
        assert fitted.shape == shape
        assert_allclose(predictor.predict([pixels]).scores, predictor.predict([fitted]).scores, atol=0.02)


def test_predict_keeps_the_limit_of_pixels(run, caplog):  # noqa: F811
    png(run / "a.png")
    Image.new("1", (10_001, 10_000)).save(run / "large.png")
    assert cli.main(["predict", "a.png", "large.png"]) == 1
    assert "large.png has 100,010,000 pixels, above dataset.max_pixels, 100,000,000." in caplog.text
