"""The rooms that each stage imports: `python tests/code_deps.py` writes them into dvc.yaml.

A room is a folder below osr/ or pipeline/; a file beside the rooms stands for itself.
"""

import ast
import re
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DVC_FILE = ROOT / "dvc.yaml"
# What cannot change a number is no dep: tracking gets the files of a stage and gives nothing back; the schema
# of params.yaml and its errors refuse a setting or let it pass, and the settings are params of the stages; so
# does the version's number; how much of a step is done is shown, and no more.
WATCHING = {"pipeline/tracking"}
CHECKING = {"osr/errors.py", "osr/params.py", "osr/progress.py", "osr/settings", "osr/version.py"}


def module_file(name):
    """The source file of one of our modules, None for a package or anything else."""
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py") if path.with_suffix(".py").is_file() else None


def imported_names(source):
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imported_files(source):
    """The files of ours that `source` imports, at its top or inside a function."""
    return frozenset(file for name in imported_names(source) if (file := module_file(name)) is not None)


def room_of(file):
    """The folder below osr/ or pipeline/ that a file stands in; where it stands in none, the file itself."""
    parts = file.relative_to(ROOT).parts
    return "/".join(parts[:2])


def rooms_of(source):
    """The rooms of every file that `source` imports, directly or not, but for those without a say."""
    found, todo = set(), [source]
    while todo:
        current = todo.pop()
        if current not in found and room_of(current) not in WATCHING | CHECKING:
            found.add(current)
            todo += imported_files(current)
    return {room_of(file) for file in found}


def stage_source(name):
    return ROOT / "pipeline" / f"{name.replace('-', '_')}.py"


def deps_of(name, names):
    """The code deps of a stage; the last one draws what all make, so every edit that runs one runs it."""
    if name != names[-1]:
        return rooms_of(stage_source(name))
    rooms = set().union(*(rooms_of(stage_source(each)) for each in names))
    return {room for room in rooms if not room.startswith("osr/")} | {"osr"}


def with_code_deps(text):
    """The text of dvc.yaml with the code deps of every stage."""
    parts = re.split(r"^(  [a-z-]+:\n)(?=    cmd: )", text, flags=re.MULTILINE)
    names = [part.strip(" :\n") for part in parts[1::2]]
    for position, name in zip(range(2, len(parts), 2), names, strict=True):
        lines = "".join(f"      - {room}\n" for room in sorted(deps_of(name, names)))
        pattern = r"(?:^      - (?:osr|pipeline)(?:/.*)?\n)+"
        parts[position] = re.sub(pattern, lines, parts[position], count=1, flags=re.MULTILINE)
    return "".join(parts)


if __name__ == "__main__":
    before = DVC_FILE.read_text(encoding="utf-8")
    after = with_code_deps(before)
    DVC_FILE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"dvc.yaml {'was up to date' if after == before else 'changed'}\n")
