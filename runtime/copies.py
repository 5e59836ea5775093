"""The files that osr and osr-runtime have in common: `python runtime/copies.py` copies them from osr.

They are written in osr/ and change there alone. No copy is in git: setup.py makes them where the package is
built, tests/conftest.py where it is tested.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "runtime/osr_runtime/shared"
SOURCES = (
    "data/file_bytes.py",
    "data/grey.py",
    "data/image_files.py",
    "data/jpeg_ends.py",
    "data/png_ends.py",
    "data/walking.py",
    "errors.py",
    "inference/inputs.py",
    "inference/judgement.py",
    "metrics/conformal.py",
    "resampling.py",
    "settings/guesses.py",
    "stored/digests.py",
)


def copies() -> dict[str, str]:
    """File name in `shared` -> its text: that of osr, with imports from there.

    Raises:
        ValueError: one of them imports a file of osr that is not copied.
    """
    told = '"""Copies of files of osr, written by runtime/copies.py: change those, not these."""\n'
    texts = {Path(source).name: (ROOT / "osr" / source).read_text(encoding="utf-8") for source in SOURCES}
    rooms = "|".join(sorted({Path(source).parent.as_posix() for source in SOURCES} - {"."}))
    moved = dict[str, str]()
    for name, text in texts.items():
        text = re.sub(rf"^from osr\.(?:{rooms}) import", "from osr_runtime.shared import", text, flags=re.M)
        pattern = r"^from osr\.(?:\w+\.)?(\w+) import"
        moved[name] = re.sub(pattern, r"from osr_runtime.shared.\1 import", text, flags=re.M)
        needed = re.findall(r"^from osr_runtime\.shared\.(\w+) import", moved[name], re.M)
        for names in re.findall(r"^from osr_runtime\.shared import (.+)", moved[name], re.M):
            needed += [part.split()[0] for part in names.split(",")]
        if lacking := sorted({f"{module}.py" for module in needed} - texts.keys()):
            raise ValueError(f"SOURCES must also have {', '.join(lacking)}, which {name} imports.")
    return {"__init__.py": told, **moved}


def write_copies() -> None:
    """Make what differs anew, each file whole or not at all, and remove what is no copy."""
    TARGET.mkdir(exist_ok=True)
    texts = copies()
    for file in TARGET.glob("*.py"):
        if file.name not in texts:
            file.unlink(missing_ok=True)
    for name, text in texts.items():
        file = TARGET / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            aside = file.with_name(f"{name}.{os.getpid()}")
            aside.write_text(text, encoding="utf-8")
            aside.replace(file)


if __name__ == "__main__":
    write_copies()
