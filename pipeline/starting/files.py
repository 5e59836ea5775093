"""The files of a new project: settings, stages that rest on the installed osr, a README, git and DVC."""

from __future__ import annotations

import csv
import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from osr.data.walking import find_images, is_utf8
from osr.errors import InputError
from pipeline.experiments.params_file import apply
from pipeline.workspace.git import NOBODY, git, nobody
from pipeline.workspace.interrupts import unstoppable
from pipeline.workspace.shipped import shipped, version_text
from pipeline.workspace.stages import DVC_FILE, PARAMS, VERSION_FILE

IGNORED = ("/.osr/", "/mlflow.db*", "/mlartifacts/", "/mlruns/", "/artifacts/", "/figures/", "/dvc_plots/")
HEAD = """# The six stages of osr. The file osr.version stands for their code: `osr run` writes the installed
# version there, and another one runs every stage again. DVC watches the images, too.
"""
NEEDS_UNKNOWNS = ("artifacts/curves/oscr", "artifacts/curves/roc", "artifacts/curves/precision_recall")
# Stands in a project from the beginning until it is whole; says whether its .git is one that was made for it.
_UNFINISHED, _OWN_GIT = ".osr-init", "git of osr init"


def check_place(project: Path) -> None:
    """Refuse a place where something lies already; an empty git repository is none.

    Raises:
        InputError: a file, or a folder that is not empty, unless it holds what an `osr init` that was killed
            left: that goes.
    """
    if project.exists() and not project.is_dir():
        raise InputError(f"{project} is a file; name a folder for the project.")
    if (project / _UNFINISHED).is_file():
        with _alone(project) as kept:
            _clear(project, keep_git=kept != _OWN_GIT)
            (project / _UNFINISHED).unlink()
    if project.is_dir() and (held := sorted(path.name for path in project.iterdir() if path.name != ".git")):
        raise InputError(
            f"{project} must be empty, but holds {held[0]}; name a new folder: osr init PHOTOS NEW_FOLDER."
        )


@contextmanager
def whole_project(project: Path) -> Iterator[None]:
    """Make the folder; what is in it stays if the block ends well, and goes if anything else happens.

    What a SIGKILL leaves goes when the next one looks at the place.

    Raises:
        InputError: the disk is full, or the like.
    """
    made = [folder for folder in (project, *project.parents) if not folder.exists()]
    is_empty_git = (project / ".git").is_dir()
    project.mkdir(parents=True, exist_ok=True)
    unfinished = project / _UNFINISHED
    with _alone(project):
        try:
            unfinished.write_text("" if is_empty_git else _OWN_GIT, encoding="utf-8")
            yield
            unfinished.unlink()
        except BaseException as error:
            with unstoppable():
                _clear(project, keep_git=is_empty_git)
                unfinished.unlink(missing_ok=True)
                for folder in made:
                    folder.rmdir()
            if isinstance(error, OSError):
                raise InputError(
                    f"{project} could not be laid down: {error.strerror or error}; nothing of it is left."
                ) from error
            raise


@contextmanager
def _alone(project: Path) -> Iterator[str]:
    """Hold the mark of a project that is not laid down whole; what the mark says.

    Raises:
        InputError: another process holds it.
    """
    with (project / _UNFINISHED).open("a+", encoding="utf-8") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"Another `osr init` is laying down {project}.") from None
        mark.seek(0)
        yield mark.read()


def _clear(project: Path, *, keep_git: bool) -> None:
    """Remove all but the mark, and from the index what DVC or git noted of it."""
    for path in project.iterdir():
        if path.name != _UNFINISHED and not (keep_git and path.name == ".git"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    git("-C", str(project), "reset", "--quiet", "--", ".")


def write_settings(project: Path, changes: dict[str, Any]) -> None:
    """The shipped params.yaml with its comments, and `changes` in it."""
    shutil.copyfile(shipped(PARAMS.name), project / PARAMS)
    apply(changes, project / PARAMS)


def write_stages(project: Path, watched: Sequence[Path], *, weights: str, has_unknowns: bool) -> None:
    """The shipped dvc.yaml, whose code deps become one file.

    Args:
        project: its folder.
        watched: files and folders of images, absolute, which the first stage rests on.
        weights: `model.backbone.weights`; stage train rests on it where it names a file.
        has_unknowns: whether unknown images are tested; without them there are no curves to plot.
    """
    yaml = YAML()
    yaml.width = 4096
    _, stages, rest = shipped(DVC_FILE.name).read_text(encoding="utf-8").partition("stages:\n")
    content = yaml.load(stages + rest)
    for name, stage in content["stages"].items():
        results = [dep for dep in stage["deps"] if dep.split("/")[0] not in ("osr", "pipeline")]
        images = [str(path) for path in watched] if name == "prepare-split" else []
        begun = [weights] if name == "train" and weights not in ("none", "pretrained") else []
        stage["deps"] = [VERSION_FILE.name, *images, *begun, *results]
    if not has_unknowns:
        plot = content["stages"]["plot"]
        plot["plots"] = [drawn for drawn in plot["plots"] if not set(drawn) & set(NEEDS_UNKNOWNS)]
        plot["outs"] += [{path: {"persist": True}} for path in NEEDS_UNKNOWNS]
    with (project / DVC_FILE).open("w", encoding="utf-8") as file:
        file.write(HEAD)
        yaml.dump(content, file)
    (project / VERSION_FILE).write_text(version_text(), encoding="utf-8")


def write_table(path: Path, folder: Path) -> int:
    """A CSV of the images in a flat folder, all of one class; return how many.

    Raises:
        InputError: the folder holds no image.
    """
    images, _ = find_images([folder])
    for image in images:
        if not is_utf8(str(image)):
            raise InputError(f"{image} has a name that is no UTF-8, which a table cannot hold; rename it.")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label"))
        writer.writerows((str(image), "unknown") for image in images)
    return len(images)


def write_others(project: Path, readme: str) -> None:
    """README.md and .gitignore."""
    (project / "README.md").write_text(readme, encoding="utf-8")
    (project / ".gitignore").write_text("\n".join(IGNORED) + "\n", encoding="utf-8")


def start_repositories(project: Path) -> str:
    """Git, where there is one, and DVC in the project; a line on what was made.

    Raises:
        InputError: git or DVC refuse.
    """
    top = git("-C", str(project), "rev-parse", "--show-toplevel")
    has_git, is_inside = shutil.which("git") is not None, top is not None and Path(top) != project
    if has_git and top is None:
        _run(project, "git", "init", "--quiet")
    flags = ["--subdir"] if is_inside else [] if has_git else ["--no-scm"]
    _run(project, "dvc", "init", "--quiet", *flags)
    lines = ("analytics = false", "check_update = false", "autostage = true" if has_git else "no_scm = true")
    text = "".join(f"    {line}\n" for line in lines)  # DVC tells nobody and asks nobody
    (project / ".dvc" / "config").write_text(f"[core]\n{text}", encoding="utf-8")
    if not has_git:
        return "DVC without git, which `osr run -S` needs"
    if is_inside:
        return f"DVC, inside the git repository {top}: commit the new files yourself"
    _run(project, "git", "add", "--all", "--", ".", f":!{_UNFINISHED}")
    is_nobody = bool(nobody("-C", str(project)))
    if is_nobody:  # git would refuse each commit, and DVC each experiment
        for what, text in NOBODY.items():
            _run(project, "git", "config", f"user.{what}", text)
    _run(project, "git", "commit", "--quiet", "-m", "osr init")
    who = ", as nobody: `git config user.name` and `user.email` there say who you are" if is_nobody else ""
    return f"git and DVC, with a first commit{who}"


def _run(project: Path, program: str, *arguments: str) -> None:
    command = [program] if program == "git" else [sys.executable, "-m", program]
    done = subprocess.run([*command, *arguments], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        why = done.stderr.strip() or done.stdout.strip()
        raise InputError(f"{program} {arguments[0]} failed in {project}: {why}")
