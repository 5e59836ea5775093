"""The command `osr-runtime predict FOLDER IMAGES...`: CSV to standard output, that of `osr predict`."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osr_runtime.classifier import OnnxClassifier
from osr_runtime.shared.errors import InputError
from osr_runtime.shared.image_files import quiet_decoders, read_fitted
from osr_runtime.shared.judgement import Decision, check_decision
from osr_runtime.shared.walking import find_images


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input ends with its sentence on standard error and status 1.

    So does a file that cannot be read, but the others are judged, and its row holds the reason.
    """
    options = make_parser().parse_args(arguments)
    try:
        classifier = OnnxClassifier.load(options.folder)
        decision = Decision(None, options.threshold, options.accept, options.p_value)
        check_decision(decision, (classifier.detector,))
        files, passed = find_images([Path(path) for path in options.images])
        if passed.counts:
            sys.stderr.write(f"{passed.sentence}.\n")
        return _write(classifier, files, decision)
    except InputError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 1


def _write(classifier: OnnxClassifier, files: Sequence[Path], decision: Decision) -> int:
    """A row for each file, in order, as its batch has been judged; 1 where one could not be read."""
    shares = [f"p/{name}" for name in classifier.class_names]
    columns = ["file", "label", "score", "p_value", "nearest", *shares, "reason"]
    table, num_unreadable = csv.DictWriter(sys.stdout, columns, lineterminator="\n"), 0
    table.writeheader()
    for start in range(0, len(files), classifier.batch_size):
        for row in _records(classifier, files[start : start + classifier.batch_size], decision):
            num_unreadable += row["reason"] is not None
            table.writerow({key: _printable(value) for key, value in row.items()})
        sys.stdout.flush()
    return 1 if num_unreadable else 0


def _records(
    classifier: OnnxClassifier, files: Sequence[Path], decision: Decision
) -> Iterator[dict[str, Any]]:
    """What is known of each file; where it cannot be read, that is the reason."""
    reasons, images = dict[Path, str](), list[NDArray[np.uint8]]()
    with quiet_decoders():
        for file in files:
            try:
                fitted = read_fitted(file, classifier.square, channels=classifier.channels)
                images.append(fitted.pixels)
            except InputError as error:
                reasons[file] = str(error)
                sys.stderr.write(f"{error}\n")
    found, row = classifier.judge(images, decision), 0
    for file in files:
        if file in reasons:
            yield {"file": str(file), "reason": reasons[file]}
            continue
        shares = zip(found.class_names, found.probabilities[row], strict=True)
        yield {
            "file": str(file),
            "label": found.labels[row],
            "score": float(found.scores[row]),
            "p_value": float(found.p_values[row]),
            "nearest": found.class_names[found.predictions[row]],
            **{f"p/{name}": float(share) for name, share in shares},
            "reason": None,
        }
        row += 1


def _printable(value: Any) -> Any:
    """Text that standard output can hold, with backslashes for the rest; other values as they are."""
    if not isinstance(value, str):
        return value
    encoding = sys.stdout.encoding or "utf-8"
    return value.encode(encoding, "backslashreplace").decode(encoding)


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
