"""The command: `osr-runtime predict FOLDER IMAGES...` writes CSV to standard output."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence

from osr_runtime.classifier import OnnxClassifier
from osr_runtime.shared.errors import InputError

COLUMNS = ("file", "label", "score", "p_value", "nearest")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input ends with its sentence on standard error and status 1."""
    options = make_parser().parse_args(arguments)
    try:
        found = OnnxClassifier.load(options.folder).predict(
            options.images, threshold=options.threshold, accept=options.accept, p_value=options.p_value
        )
    except InputError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 1
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow((*COLUMNS, *(f"p/{name}" for name in found.class_names)))
    nearest = [found.class_names[index] for index in found.predictions]
    rows = zip(found.names, found.labels, found.scores, found.p_values, nearest, strict=True)
    for row, probabilities in zip(rows, found.probabilities, strict=True):
        table.writerow((*row, *probabilities))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(
        prog="osr-runtime", description="Judge images without PyTorch: a class, or unknown."
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add = commands.add_parser("predict", help="judge images; CSV on standard output").add_argument
    add("folder", metavar="FOLDER", help="what `osr export --onnx` made")
    add("images", nargs="+", metavar="IMAGE", help="an image, or a folder of them")
    add("--threshold", type=float, metavar="SCORE", help="scores above are unknown")
    add("--accept", type=float, metavar="SHARE", help="the threshold that accepts this share of known images")
    add("--p-value", type=float, metavar="SHARE", help="images whose p-value is at most this are unknown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
