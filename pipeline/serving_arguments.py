"""What the commands take that judge images with a finished run or an exported folder."""

from __future__ import annotations

import argparse

from pipeline.arguments import (
    acceptance,
    address,
    code,
    exported_folder,
    growing_folder,
    images_folder,
    new_file,
    new_folder,
    new_picture,
    number,
    part,
    probability,
    share,
    source,
    verdicts,
    whole,
)

Parser = argparse.ArgumentParser


def predict(command: Parser) -> None:
    """Those of `osr predict`."""
    add = command.add_argument
    told = "an image, a folder, a pattern in quotes, a Parquet file, or - for paths on standard input"
    add("paths", nargs="+", type=source, metavar="PATH", help=told)
    told = "a folder that `osr export` made; otherwise the present run judges"
    add("--model", type=exported_folder, metavar="FOLDER", help=told)
    add("--detector", metavar="NAME", help="one of those enabled; otherwise plot.detector, or the folder's")
    decision = command.add_mutually_exclusive_group()
    told = "scores above are unknown; otherwise the fitted one"
    decision.add_argument("--threshold", type=number, metavar="SCORE", help=told)
    told = "the threshold that accepts this share of known images, such as 0.99"
    decision.add_argument("--accept", type=acceptance, metavar="SHARE", help=told)
    told = (
        "images whose p-value is at most this are unknown, such as 0.01; of n known images held out (the "
        "last line says how many) no p-value is below 1 / (n + 1)"
    )
    decision.add_argument("--p-value", type=probability, metavar="SHARE", help=told)
    told = "of the images that are rejected, all together, at most this share is expected to be known"
    decision.add_argument("--fdr", type=share, metavar="SHARE", help=told)
    told = "import this network or detector of somebody's own; otherwise those of params.yaml alone"
    add("--allow-code", type=code, action="append", metavar="MODULE:CLASS", help=told)
    forms = ("csv", "json", "jsonl", "parquet")
    add("--format", choices=forms, help="of the verdicts (by the ending of --output; otherwise csv)")
    add("--output", type=new_file, metavar="FILE", help="write there instead of standard output")
    told = (
        "also an HTML page: those most unknown and those nearest to the threshold, by score; not with --fdr"
    )
    add("--gallery", type=new_file, metavar="FILE", help=told)
    add("--column", metavar="NAME", help="of Parquet files: image, bytes, path or file, unless named here")
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "judge one part of the images, for arrays of jobs; a part that is there already is left as it is"
    add("--shard", type=part, metavar="I/N", help=told)
    add("--out", type=growing_folder, metavar="DIR", help="the folder of all parts, a file each")


def export(command: Parser) -> None:
    """Those of `osr export`."""
    add = command.add_argument
    told = "the folder of a project with a finished run; otherwise the present one"
    add("run", nargs="?", default="present", metavar="RUN", help=told)
    add("out", type=new_folder, metavar="OUT", help="the folder to make")
    add("--detector", metavar="NAME", help="judges unless another is asked for; otherwise plot.detector")
    add("--onnx", action="store_true", help="also classifier.onnx, of this detector, for any runtime")
    add("--torch-export", action="store_true", help="also classifier.pt2, the same as a program of torch")
    told = "also N small training images of each class, to name the nearest: the folder then holds pictures"
    add("--neighbours", type=whole(1, 1000), metavar="N", help=told)


def recalibrate(command: Parser) -> None:
    """Those of `osr recalibrate`."""
    add = command.add_argument
    add("folder", metavar="FOLDER", type=exported_folder, help="what `osr export` or this command made")
    told = "a folder of new images of known classes, in class folders where their labels are to count"
    add("images", metavar="IMAGES", type=images_folder, help=told)
    add("--out", type=new_folder, required=True, metavar="NEW", help="the folder to make")
    told = "of new known images that is to be accepted; otherwise as the folder promises"
    add("--accept", type=share, metavar="SHARE", help=told)
    rules = ("acceptance", "conformal", "conformal_per_class")
    add("--rule", choices=rules, help="of the thresholds; otherwise the folder's")
    told = "images that belong together, as dataset.group_pattern: subfolder, or a regular expression"
    add("--group-pattern", metavar="PATTERN", help=told)
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "import this network or detector of somebody's own"
    add("--allow-code", type=code, action="append", metavar="MODULE:CLASS", help=told)


def serve(command: Parser) -> None:
    """Those of `osr serve`."""
    add = command.add_argument
    add("folder", metavar="FOLDER", type=exported_folder, help="what `osr export` made")
    add(
        "--host",
        type=address,
        default="127.0.0.1",
        help="address to listen on; this machine alone reaches %(default)s",
    )
    add("--port", type=whole(0, 65_535), default=8000, help="(%(default)s)")
    add("--threads", type=whole(1, 256), metavar="N", help="of the network (the cores of the machine)")
    add("--max-megabytes", type=whole(1, 256), default=16, metavar="N", help="of a request (%(default)s)")
    add("--seconds", type=whole(1, 3600), default=30, metavar="N", help="to send, and to wait (%(default)s)")
    told = "import this network or detector of somebody's own"
    add("--allow-code", type=code, action="append", metavar="MODULE:CLASS", help=told)
    add("--quiet", action="store_true", help="no line per request")


def monitor(command: Parser) -> None:
    """Those of `osr monitor`."""
    add = command.add_argument
    add(
        "verdicts",
        nargs="+",
        type=verdicts,
        metavar="VERDICTS",
        help="files of `osr predict`, in order of time",
    )
    add(
        "--model",
        type=exported_folder,
        required=True,
        metavar="FOLDER",
        help="the exported folder that judged",
    )
    add("--detector", metavar="NAME", help="that judged; otherwise the folder's default")
    add(
        "--state",
        type=new_file,
        metavar="FILE",
        help="goes on where the last call ended, and keeps the result",
    )
    add("--false-alarm", type=share, default=0.01, metavar="SHARE", help="probability of one (%(default)s)")
    add("--plot", type=new_picture, metavar="FILE", help="draw the evidence: a png, pdf or svg")
    add("--format", choices=("text", "json"), default="text", help="of the answer (%(default)s)")
    told = "import this network or detector of somebody's own"
    add("--allow-code", type=code, action="append", metavar="MODULE:CLASS", help=told)


def discover(command: Parser) -> None:
    """Those of `osr discover`."""
    add = command.add_argument
    add("folder", metavar="FOLDER", type=exported_folder, help="the exported folder that judges")
    add("paths", nargs="*", type=source, metavar="PATH", help="images to judge, as for `osr predict`")
    told = "instead of PATH: take what is rejected in a file that `osr predict` wrote"
    add("--verdicts", type=verdicts, metavar="FILE", help=told)
    add("--out", type=new_folder, required=True, metavar="DIR", help="the folder to make")
    told = "of a candidate, at least (%(default)s)"
    add("--min-images", type=whole(2, 1_000_000), default=10, metavar="N", help=told)
    add("--detector", metavar="NAME", help="that judges; otherwise the folder's default")
    told = "judge by the threshold that accepts this share of known images, such as 0.9"
    add("--accept", type=share, metavar="SHARE", help=told)
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "import this network or detector of somebody's own"
    add("--allow-code", type=code, action="append", metavar="MODULE:CLASS", help=told)


def register(command: Parser) -> None:
    """Those of `osr register`."""
    add = command.add_argument
    add("name", metavar="NAME", help="of the registered model")
    add("--alias", metavar="NAME", help="points to this version from now on")
    add("--detector", metavar="NAME", help="one of detectors.enabled; otherwise plot.detector")
