"""The commands of `osr`: what each takes, examples of it, and the module that does it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from pipeline import serving_arguments as judging
from pipeline.arguments import (
    code,
    new_file,
    new_picture,
    new_stem,
    origin,
    path,
    share,
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
    add(
        "--overrides",
        action="append",
        default=[],
        metavar="TEXT",
        help='settings in one text: "train.lr=1e-3 split.trial=1"',
    )
    add("--force", action="store_true", help="run stages again that nothing changed for")
    add("--sync", action="store_true", help="afterwards send MLflow what it does not hold yet")


def _init(command: Parser) -> None:
    add = command.add_argument
    add("photos", type=path, metavar="PHOTOS", help="a folder of class folders, a .csv or a .npz")
    add("project", nargs="?", type=path, default=Path(), metavar="FOLDER", help="a new or empty one (here)")
    add("--unknown", type=path, metavar="PHOTOS", help="images of no known class, to test with")
    told = "keep photos that look like groups, by name or folder, in one part, or divide them"
    add("--groups", action=argparse.BooleanOptionalAction, default=None, help=told)
    add("--preset", action="append", default=[], metavar="NAME", help="instead of the one that is chosen")
    add("--backbone", metavar="NAME", help="the network, as model.backbone.name")
    add("--weights", metavar="FILE", help="a file of its trained weights; or pretrained: fetched; or none")


def _fit(command: Parser) -> None:
    add = command.add_argument
    told = "of timm, torchvision.models:NAME, or module:Class of your own"
    add("model", metavar="MODEL", help=told)
    add("data", type=path, metavar="DATA", help="a folder of class folders, a .csv or a .npz")
    told = "a state dict, an earlier artifacts/model/model.safetensors, pretrained, or none (%(default)s)"
    add("--weights", default="pretrained", metavar="FILE", help=told)
    add("-S", dest="settings", action="append", default=[], metavar="KEY=VALUE", help=SETTING)


def _check(command: Parser) -> None:
    told = "a detector, a loss or a network of your own; its file stands beside params.yaml"
    command.add_argument("name", type=code, metavar="MODULE:CLASS", help=told)


def _compare(command: Parser) -> None:
    add = command.add_argument
    told_metrics = "columns (auroc auoscr closed_set/accuracy; estimates where no run tested unknown images)"
    forms = ("terminal", "markdown", "csv", "latex")
    add("--files", action="store_true", help="the present run's files instead of MLflow's rows")
    add("--metrics", nargs="+", action="extend", metavar="NAME", help=told_metrics)
    told = "only runs with this parameter, as -S takes it; may be given several times"
    add("--where", action="append", default=[], metavar="KEY=VALUE", help=told)
    told = "only the rows of this detector, before any test; may be given several times"
    add("--detector", action="append", default=[], metavar="NAME", help=told)
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
    how = command.add_mutually_exclusive_group()
    how.add_argument(
        "--queue", action="store_true", help="queue the experiments instead of printing the commands"
    )
    clusters = ("slurm", "condor", "local")
    how.add_argument("--submit", choices=clusters, help="one job per experiment, each in a clone of its own")
    add("--missing", action="store_true", help="only those without a finished run in MLflow")
    add("--variant", metavar="NAME", help="only this one of the variants that the file names")
    add("-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=SETTING)
    jobs = command.add_argument_group("of --submit")
    for name, default, told in (
        ("--jobs", 1, "at a time"),
        ("--time", 240, "minutes until a job is ended"),
        ("--requeue", 3, "times that a job whose time is over is begun again, where it was"),
        ("--cpus", 4, "of a job"),
        ("--memory", 16, "GB of a job"),
        ("--gpus", 0, "of a job"),
    ):
        least = 0 if name in ("--requeue", "--gpus") else 1
        jobs.add_argument(
            name, type=whole(least, 10**6), default=default, metavar="N", help=f"{told} (%(default)s)"
        )
    told = "another option of sbatch, such as partition=gpu; may be given several times"
    jobs.add_argument("--slurm", action="append", default=[], metavar="KEY=VALUE", help=told)


def _search(command: Parser) -> None:
    add = command.add_argument
    add("space", type=path, metavar="SPACE.yaml", help="what is varied, how often, and how it is judged")
    told = "address of Optuna's database (optuna.db beside mlflow.db)"
    add("--storage", metavar="URL", help=told)


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


def _leaderboard(command: Parser) -> None:
    add = command.add_argument
    told = f"of stage evaluate ({STAGES['evaluate'].metrics}); or merge, then folders and stores of MLflow"
    add("sources", nargs="*", type=origin, metavar="FILE", help=told)
    add("--out", type=new_stem, metavar="STEM", help="write STEM.csv, STEM.md and STEM.png")
    told = "columns of merge (auroc auoscr closed_set/accuracy)"
    add("--metrics", nargs="+", action="extend", metavar="NAME", help=told)
    told = "only runs with this parameter are merged; may be given several times"
    add("--where", action="append", default=[], metavar="KEY=VALUE", help=told)


def _tracking(command: Parser) -> None:
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    told = "send MLflow what it does not hold yet of the present run"
    actions.add_parser("sync", help=told, description=full("sync", told))


def _split(command: Parser) -> None:
    command.add_argument(
        "--report", action="store_true", help="print it as a table, which is what happens anyway"
    )


# Commands that can do nothing without params.yaml, and whether what is asked of them is such.
_NEED_SETTINGS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "run": lambda _options: True,
    "fit": lambda _options: True,
    "predict": lambda options: options.model is None,
    "compare": lambda options: options.files,
    "leaderboard": lambda options: not options.sources,
    "sweep": lambda options: not options.list,
    "search": lambda _options: True,
    "split": lambda _options: True,
    "register": lambda _options: True,
    "export": lambda options: options.run == "present",
    "tracking": lambda _options: True,
}


def reads_settings(options: argparse.Namespace) -> bool:
    """Whether the command reads params.yaml where it was called, whatever else it may read."""
    return options.command in _NEED_SETTINGS and _NEED_SETTINGS[options.command](options)


COMMANDS: dict[str, tuple[str, str, Callable[[Parser], None]]] = {
    "init": ("pipeline.starting.init", "look at a folder of photos and lay down a project", _init),
    "run": ("pipeline.experiments.launch", "run the pipeline, or what changed of it (`dvc repro`)", _run),
    "fit": (
        "pipeline.starting.fit",
        "detectors, thresholds and a report for a classifier you have, without training",
        _fit,
    ),
    "check": (
        "pipeline.starting.check",
        "whether a detector, a loss or a network of your own keeps what all of its kind promise",
        _check,
    ),
    "predict": (
        "pipeline.serving.predict",
        "judge new images with the present run: a class, or unknown",
        judging.predict,
    ),
    "compare": (
        "pipeline.comparing.compare",
        "a table over runs, the best marked where it is significant",
        _compare,
    ),
    "leaderboard": (
        "pipeline.comparing.merge",
        "a table and a figure of one run's detectors, or of the runs of many people",
        _leaderboard,
    ),
    "preset": ("pipeline.experiments.preset", "named settings as flags for `dvc exp run`", _preset),
    "sweep": ("pipeline.experiments.sweep", "print or queue the experiments of a published table", _sweep),
    "search": (
        "pipeline.experiments.search",
        "search settings with Optuna, judged by known classes that are held out",
        _search,
    ),
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
        judging.register,
    ),
    "export": (
        "pipeline.serving.export",
        "the classifier of a run as one folder that `osr.load` reads anywhere",
        judging.export,
    ),
    "recalibrate": (
        "pipeline.serving.recalibrate",
        "a new version of an exported classifier, its thresholds made from new images of known classes",
        judging.recalibrate,
    ),
    "serve": ("pipeline.serving.serve", "answer over HTTP with an exported classifier", judging.serve),
    "monitor": (
        "pipeline.serving.monitor",
        "whether new images can still be of known classes",
        judging.monitor,
    ),
    "discover": (
        "pipeline.serving.discover",
        "candidate new classes among rejected images, as class folders that `osr init` takes",
        judging.discover,
    ),
    "tracking": ("pipeline.tracking.sync", "bring MLflow up to date", _tracking),
}
