"""The files that osr and osr-runtime have in common: `python runtime/copies.py` copies them from osr.

They are written in osr/ and change there alone; tests/test_onnx.py compares the copies.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "runtime/osr_runtime/shared"
SOURCES = (
    "data/grey.py",
    "data/image_files.py",
    "data/png_ends.py",
    "data/walking.py",
    "errors.py",
    "inference/inputs.py",
    "inference/judgement.py",
    "metrics/conformal.py",
    "resampling.py",
    "stored/digests.py",
)


def copies() -> dict[str, str]:
    """File name in `shared` -> its text: that of osr, with imports from there."""
    told = '"""Copies of files of osr, written by runtime/copies.py: change those, not these."""\n'
    texts = {Path(source).name: (ROOT / "osr" / source).read_text(encoding="utf-8") for source in SOURCES}
    pattern = r"^from osr\.(?:\w+\.)?(\w+) import"
    moved = {
        name: re.sub(pattern, r"from osr_runtime.shared.\1 import", text, flags=re.MULTILINE)
        for name, text in texts.items()
    }
    return {"__init__.py": told, **moved}


if __name__ == "__main__":
    for name, text in copies().items():
        (TARGET / name).write_text(text, encoding="utf-8")
