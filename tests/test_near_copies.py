"""Near-copies in different parts are found; other images of the same kind, and tiny ones, are not."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from osr.data.near_copies import near_copies


def crops(count: int, side: int) -> np.ndarray:
    """Disjoint places of two photographs."""
    photos = load_sample_images().images
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        photo = photos[generator.integers(len(photos))]
        top, left = (generator.integers(size - side) for size in photo.shape[:2])
        found.append(photo[top : top + side, left : left + side])
    return np.array(found)


def saved_again(image: np.ndarray, quality: int) -> np.ndarray:
    """As JPEG, a quarter smaller, and enlarged."""
    side = len(image)
    buffer = io.BytesIO()
    Image.fromarray(image).resize((side * 3 // 4,) * 2).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).resize((side, side)))


def test_a_photo_saved_again_in_another_part_is_found() -> None:
    images = crops(60, 200)
    codes = np.zeros(80, np.int64)
    again = np.array([saved_again(images[row], 60) for row in range(20)])
    codes[60:] = 2
    codes[65:70], codes[70:75] = 0, -1  # in the same part, or in none
    pairs = near_copies(np.concatenate([images, again]), codes)
    wanted = {(row, 60 + row) for row in [*range(5), *range(15, 20)]}
    assert len(wanted & set(pairs)) >= 8, "one of which every quarter differs is missed"
    assert set(pairs) <= wanted
    equal = near_copies(np.concatenate([images, images[:20]]), codes, np.r_[np.arange(60), np.arange(20)])
    assert not wanted & set(equal), "identical images are told as such"


def test_other_images_and_flat_ones_are_no_copies() -> None:
    generator = np.random.default_rng(1)
    codes = np.arange(200) % 3
    noise = generator.integers(0, 256, (200, 64, 64, 1), dtype=np.uint8)
    assert near_copies(noise, codes) == []
    flat = np.full((200, 64, 64, 3), 200, np.uint8) + generator.integers(
        0, 3, (200, 64, 64, 3), dtype=np.uint8
    )
    assert near_copies(flat, codes) == []


def test_tiny_images_are_not_looked_at() -> None:
    digits = load_digits().images.astype(np.uint8)[..., None]
    assert near_copies(digits, np.arange(len(digits)) % 3) == []
