"""The commands of `osr`: what each takes, examples of it, and the module that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pipeline.arguments import (
    address,
    code,
    new_file,
    new_folder,
    new_picture,
    new_stem,
    number,
    part,
    path,
    share,
    source,
    whole,
)
from pipeline.examples import EXAMPLES
from pipeline.workspace.stages import PARAMS, STAGES

Parser = argparse.ArgumentParser

SETTING = "a setting other than in params.yaml; may be given several times"


def full(name: str, told: str) -> str:
    """What a command's own help says: its line as a sentence, and examples."""
    examples = EXAMPLES.get(name, "")
    return f"{told[0].upper()}{told[1:]}.{examples and chr(10) + examples}"


def _run(command: Parser) -> None:
    add = command.add_argument
    add(
        "stage",
        nargs="?",
        choices=tuple(STAGES),
        metavar="STAGE",
        help=f"run no further than {', '.join(STAGES)}",
    )
    add("--preset", action="append", default=[], metavar="NAME", help="a file in presets/; a later one wins")
    add("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=SETTING)
    add("--overrides", default="", metavar="TEXT", help='settings in one text: "train.lr=1e-3 split.trial=1"')
    add("--force", action="store_true", help="run stages again that nothing changed for")
    add("--sync", action="store_true", help="afterwards send MLflow what it does not hold yet")


def _init(command: Parser) -> None:
    add = command.add_argument
    add("photos", type=path, metavar="PHOTOS", help="a folder of class folders, a .csv or a .npz")
    add("project", nargs="?", type=path, default=Path(), metavar="FOLDER", help="a new or empty one (here)")
    add("--unknown", type=path, metavar="PHOTOS", help="images of no known class, to test with")
    told = "divide photos between training and test whose names look like frames of one track"
    add("--no-groups", dest="groups", action="store_false", help=told)
    add("--preset", action="append", default=[], metavar="NAME", help="instead of the one that is chosen")
    add("--backbone", metavar="NAME", help="the network, as model.backbone.name")
    add("--weights", metavar="FILE", help="its trained weights, where timm cannot fetch them")


def _fit(command: Parser) -> None:
    add = command.add_argument
    told = "of timm, torchvision.models:NAME, or module:Class of your own"
    add("model", metavar="MODEL", help=told)
    add("data", type=path, metavar="DATA", help="a folder of class folders, a .csv or a .npz")
    told = "a state dict, an earlier artifacts/model/model.safetensors, pretrained, or none (%(default)s)"
    add("--weights", default="pretrained", metavar="FILE", help=told)
    add("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=SETTING)


def _predict(command: Parser) -> None:
    add = command.add_argument
    told = "an image, a folder, a pattern in quotes, a Parquet file, or - for paths on standard input"
    add("paths", nargs="+", type=source, metavar="PATH", help=told)
    told = "a folder that `osr export` made; otherwise the present run judges"
    add("--model", type=path, metavar="FOLDER", help=told)
    add("--detector", metavar="NAME", help="one of those enabled; otherwise plot.detector, or the folder's")
    decision = command.add_mutually_exclusive_group()
    for name, metavar, told in (
        ("--threshold", "SCORE", "scores above are unknown; otherwise the fitted one"),
        ("--accept", "SHARE", "the threshold that accepts this share of known images, such as 0.99"),
        ("--p-value", "SHARE", "images whose p-value is at most this are unknown, such as 0.01"),
    ):
        decision.add_argument(name, type=number, metavar=metavar, help=told)
    told = "of the images that are rejected, all together, at most this share is expected to be known"
    decision.add_argument("--fdr", type=share, metavar="SHARE", help=told)
    told = "import this class for a network of somebody's own; otherwise that of params.yaml alone"
    add("--allow-code", type=code, metavar="MODULE:CLASS", help=told)
    forms = ("csv", "json", "jsonl", "parquet")
    add("--format", choices=forms, help="of the verdicts (by the ending of --output; otherwise csv)")
    add("--output", type=new_file, metavar="FILE", help="write there instead of standard output")
    told = "also an HTML page: those most unknown and those nearest to the threshold, by score"
    add("--gallery", type=new_file, metavar="FILE", help=told)
    add("--column", metavar="NAME", help="of Parquet files: image, bytes, path or file, unless named here")
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "judge one part of the images, for arrays of jobs; a part that is there already is left as it is"
    add("--shard", type=part, metavar="I/N", help=told)
    add("--out", type=path, metavar="DIR", help="the folder of all parts, a file each")


def _export(command: Parser) -> None:
    add = command.add_argument
    told = "the folder of a project with a finished run; otherwise the present one"
    add("run", nargs="?", default="present", metavar="RUN", help=told)
    add("out", type=new_folder, metavar="OUT", help="the folder to make")
    add("--detector", metavar="NAME", help="judges unless another is asked for; otherwise plot.detector")
    add("--onnx", action="store_true", help="also classifier.onnx, of this detector, for any runtime")
    add("--torch-export", action="store_true", help="also classifier.pt2, the same as a program of torch")


def _recalibrate(command: Parser) -> None:
    add = command.add_argument
    add("folder", metavar="FOLDER", type=path, help="what `osr export` or this command made")
    told = "a folder of new images of known classes, in class folders where their labels are to count"
    add("images", metavar="IMAGES", type=path, help=told)
    add("--out", type=new_folder, required=True, metavar="NEW", help="the folder to make")
    told = "of new known images that is to be accepted; otherwise as the folder promises"
    add("--accept", type=share, metavar="SHARE", help=told)
    add("--rule", choices=("acceptance", "conformal"), help="of the thresholds; otherwise the folder's")
    told = "images that belong together, as dataset.group_pattern: subfolder, or a regular expression"
    add("--group-pattern", metavar="PATTERN", help=told)
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "import this class for a network of somebody's own"
    add("--allow-code", type=code, metavar="MODULE:CLASS", help=told)


def _serve(command: Parser) -> None:
    add = command.add_argument
    add("folder", metavar="FOLDER", type=path, help="what `osr export` made")
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
    told = "import this class for a network of somebody's own"
    add("--allow-code", type=code, metavar="MODULE:CLASS", help=told)
    add("--quiet", action="store_true", help="no line per request")


def _monitor(command: Parser) -> None:
    add = command.add_argument
    add("verdicts", nargs="+", type=path, metavar="VERDICTS", help="files of `osr predict`, in order of time")
    add("--model", type=path, required=True, metavar="FOLDER", help="the exported folder that judged")
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
    told = "import this class for a network of somebody's own"
    add("--allow-code", type=code, metavar="MODULE:CLASS", help=told)


def _discover(command: Parser) -> None:
    add = command.add_argument
    add("folder", metavar="FOLDER", type=path, help="the exported folder that judges")
    add("paths", nargs="*", type=source, metavar="PATH", help="images to judge, as for `osr predict`")
    told = "instead of PATH: take what is rejected in a file that `osr predict` wrote"
    add("--verdicts", type=path, metavar="FILE", help=told)
    add("--out", type=new_folder, required=True, metavar="DIR", help="the folder to make")
    told = "of a candidate, at least (%(default)s)"
    add("--min-images", type=whole(2, 1_000_000), default=10, metavar="N", help=told)
    add("--detector", metavar="NAME", help="that judges; otherwise the folder's default")
    told = "judge by the threshold that accepts this share of known images, such as 0.9"
    add("--accept", type=share, metavar="SHARE", help=told)
    add("--workers", type=whole(0, 256), metavar="N", help="processes that read ahead (half of the cores)")
    told = "import this class for a network of somebody's own"
    add("--allow-code", type=code, metavar="MODULE:CLASS", help=told)


def _compare(command: Parser) -> None:
    add = command.add_argument
    told_metrics = "columns (auroc auoscr closed_set/accuracy; estimates where no run tested unknown images)"
    forms = ("terminal", "markdown", "csv", "latex")
    add("--files", action="store_true", help="the present run's files instead of MLflow's rows")
    add("--metrics", nargs="+", metavar="NAME", help=told_metrics)
    add("--where", action="append", default=[], metavar="KEY=VALUE", help="only runs with this parameter")
    add("--missing", action="store_true", help="print the commands that queue missing trials, and no table")
    add("--format", choices=forms, help="of the table (by the ending of --out; otherwise terminal)")
    add("--out", type=new_file, metavar="FILE", help="write the table there instead of standard output")
    add(
        "--diagram",
        type=new_picture,
        metavar="FILE",
        help="also draw mean ranks over runs: a png, pdf or svg",
    )
    told = "of intervals over repeats (%(default)s)"
    add("--confidence", type=share, default=0.95, metavar="SHARE", help=told)
    told = "p-value below which methods differ (%(default)s)"
    add("--significance", type=share, default=0.05, metavar="SHARE", help=told)


def _sweep(command: Parser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="a file in sweeps/")
    which.add_argument("--list", action="store_true", help="print the sweeps there are")
    add = command.add_argument
    add("--queue", action="store_true", help="queue the experiments instead of printing the commands")
    add("--missing", action="store_true", help="only those without a finished run in MLflow")
    add("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=SETTING)


def _reproduce(command: Parser) -> None:
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME", help="a result in docs/ledger.yaml")
    which.add_argument("--list", action="store_true", help="print the results there are")
    which.add_argument("--page", action="store_true", help="print docs/results.md, which is made of them")
    add = command.add_argument
    add("--split", action="store_true", help="only compare images and division, without training")
    add("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=SETTING)


def _preset(command: Parser) -> None:
    add = command.add_argument
    add("names", nargs="*", metavar="NAME", help="a file in presets/; a later one wins")
    add("--apply", action="store_true", help=f"write them into {PARAMS} instead")
    add("--list", action="store_true", help="print the presets there are")


def _register(command: Parser) -> None:
    add = command.add_argument
    add("name", metavar="NAME", help="of the registered model")
    add("--alias", metavar="NAME", help="points to this version from now on")
    add("--detector", metavar="NAME", help="one of detectors.enabled; otherwise plot.detector")


def _leaderboard(command: Parser) -> None:
    add, metrics = command.add_argument, STAGES["evaluate"].metrics
    add("metrics", nargs="?", type=path, default=metrics, metavar="FILE", help="of evaluate (%(default)s)")
    add("--out", type=new_stem, metavar="STEM", help="write STEM.csv, STEM.md and STEM.png")


def _tracking(command: Parser) -> None:
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    told = "send MLflow what it does not hold yet of the present run"
    actions.add_parser("sync", help=told, description=full("sync", told))


def _split(command: Parser) -> None:
    command.add_argument(
        "--report", action="store_true", help="print it as a table, which is what happens anyway"
    )


COMMANDS: dict[str, tuple[str, str, Callable[[Parser], None]]] = {
    "init": ("pipeline.starting.init", "look at a folder of photos and lay down a project", _init),
    "run": ("pipeline.experiments.launch", "run the pipeline, or what changed of it (`dvc repro`)", _run),
    "fit": (
        "pipeline.starting.fit",
        "detectors, thresholds and a report for a classifier you have, without training",
        _fit,
    ),
    "predict": (
        "pipeline.serving.predict",
        "judge new images with the present run: a class, or unknown",
        _predict,
    ),
    "compare": (
        "pipeline.comparing.compare",
        "a table over runs, the best marked where it is significant",
        _compare,
    ),
    "leaderboard": (
        "pipeline.report.leaderboard",
        "a table and a figure of one run's detectors",
        _leaderboard,
    ),
    "preset": ("pipeline.experiments.preset", "named settings as flags for `dvc exp run`", _preset),
    "sweep": ("pipeline.experiments.sweep", "print or queue the experiments of a published table", _sweep),
    "reproduce": (
        "pipeline.experiments.reproduce",
        "make a result of docs/results.md anew, and compare",
        _reproduce,
    ),
    "split": (
        "pipeline.report.split_report",
        "what is in the split: classes, images, groups, duplicates",
        _split,
    ),
    "register": (
        "pipeline.serving.register",
        "put the present run's classifier into MLflow's registry",
        _register,
    ),
    "export": (
        "pipeline.serving.export",
        "the classifier of a run as one folder that `osr.load` reads anywhere",
        _export,
    ),
    "recalibrate": (
        "pipeline.serving.recalibrate",
        "a new version of an exported classifier, its thresholds made from new images of known classes",
        _recalibrate,
    ),
    "serve": ("pipeline.serving.serve", "answer over HTTP with an exported classifier", _serve),
    "monitor": ("pipeline.serving.monitor", "whether new images can still be of known classes", _monitor),
    "discover": (
        "pipeline.serving.discover",
        "candidate new classes among rejected images, as class folders that `osr init` takes",
        _discover,
    ),
    "tracking": ("pipeline.tracking.sync", "bring MLflow up to date", _tracking),
}
