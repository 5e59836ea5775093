"""The loop of open-world learning on the digits: a class that nobody named is found, named and learned.

    python -m benchmarks.new_class WORK

WORK becomes a folder of images and projects. Nines are left out of the class folders `photos`; `new` holds
other images of all ten digits, without labels but for the first letter of their names, which only this script
reads. Each step is a command that it prints: init, run, export, discover, then init, run, export and predict
with the candidates beside the class folders.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
LEFT_OUT, TO_LEARN = 9, 120  # images of each other digit


def write_digits(work: Path) -> None:
    """Class folders in `photos`, and the rest in `new`, as PNG files."""
    digits, seen = load_digits(), Counter[int]()
    for number, (image, digit) in enumerate(zip(digits.images, digits.target.tolist(), strict=True)):
        seen[digit] += 1
        known = digit != LEFT_OUT and seen[digit] <= TO_LEARN
        file = work / (f"photos/{digit}/{number:04}.png" if known else f"new/{digit}_{number:04}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype("uint8")).save(file)


def osr(*arguments: str, at: Path) -> str:
    """Run a command of this checkout's osr; returns what it printed."""
    print(f"$ osr {' '.join(arguments)}", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    done = subprocess.run(command, cwd=at, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def truth(file: str) -> str:
    """The digit that a file of `new` shows."""
    return Path(file).name[0]


def train(work: Path, photos: str, project: str, settings: list[str]) -> None:
    """A project on a folder of class folders, and its exported classifier."""
    osr("init", photos, project, at=work)
    osr("run", *settings, at=work / project)
    osr("export", f"../classifier_of_{project}", at=work / project)


def loop(work: Path, settings: list[str]) -> tuple[float, float]:
    """All steps; returns the purity of the candidates, and the share of the nines that are then called so."""
    write_digits(work)
    train(work, "photos", "first", settings)
    print(osr("discover", "classifier_of_first", "new", "--out", "found", at=work))
    shutil.copytree(work / "photos", work / "more")
    right = total = 0
    for folder in sorted((work / "found" / "classes").iterdir()):
        counts = Counter(truth(file.name) for file in folder.iterdir())
        ((digit, count),) = counts.most_common(1)
        right, total = right + count, total + counts.total()
        print(f"{folder.name}: {counts.total()} images, {count} of them show {digit}")
        shutil.copytree(folder, work / "more" / digit, dirs_exist_ok=True)
    train(work, "more", "second", settings)
    kept = {file.name for folder in (work / "found" / "classes").iterdir() for file in folder.iterdir()}
    osr("predict", "new", "--model", "classifier_of_second", "--output", "verdicts.csv", at=work)
    with (work / "verdicts.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if Path(row["file"]).name not in kept]
    nines = Counter(row["label"] for row in rows if truth(row["file"]) == str(LEFT_OUT))
    others = [row["label"] == truth(row["file"]) for row in rows if truth(row["file"]) != str(LEFT_OUT)]
    called = nines[str(LEFT_OUT)]
    print("\n| of the new images | |\n|---|---:|")
    print(f"| purity of the candidates | {right / total:.3f} |")
    print(f"| nines in no candidate | {nines.total()} |")
    print(f"| of these called 9 | {called} |\n| unknown | {nines['unknown']} |")
    print(f"| other images in no candidate | {len(others)} |")
    print(f"| of these called by their digit | {sum(others) / len(others):.1%} |")
    return right / total, called / nines.total()


def main() -> None:
    """Print the commands and what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    options = parser.parse_args()
    options.work.mkdir(parents=True)
    loop(options.work.resolve(), [])


if __name__ == "__main__":
    main()
