"""Folders of photos, as `osr init` finds them."""

import numpy as np
from PIL import Image

CLASSES = ("Straße", "a b", "停止")


def photo(path, seed, size=(90, 70)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def tracks_of_photos(root):
    """Three classes in tracks of four, a damaged file, a copy, and a class of two images."""
    for code, name in enumerate(CLASSES):
        for number in range(24):
            photo(root / name / f"{number // 4:03d}_{number % 4}.png", 100 * code + number)
    (root / "a b" / "005_9.png").write_bytes(b"no image")
    (root / "a b" / "005_8.png").write_bytes((root / "a b" / "005_0.png").read_bytes())
    photo(root / "rare" / "1.png", 998)
    photo(root / "rare" / "2.png", 999)
    return root
