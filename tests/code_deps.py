"""The source files that each stage imports: `python tests/code_deps.py` writes them into dvc.yaml."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DVC_FILE = ROOT / "dvc.yaml"


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


def import_closure(source):
    """Every file of ours that `source` imports, at its top or inside a function, directly or not."""
    found, todo = set(), [source]
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo += [file for name in imported_names(current) if (file := module_file(name))]
    return {file.relative_to(ROOT).as_posix() for file in found}


def stage_source(name):
    return ROOT / "pipeline" / f"{name.replace('-', '_')}.py"


def data_files(name):
    """The files of osr/ that are no code and that the stage reads."""
    if name != "prepare-split":
        return set()
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "osr/protocols").glob("*.json")}


def with_code_deps(text):
    """The text of dvc.yaml with the code deps of every stage but plot, which depends on both packages."""
    parts = re.split(r"^(  [a-z-]+:\n)(?=    cmd: )", text, flags=re.MULTILINE)
    for position in range(1, len(parts), 2):
        name = parts[position].strip(" :\n")
        if name != "plot":
            files = [*sorted(data_files(name)), *sorted(import_closure(stage_source(name)))]
            lines = "".join(f"      - {file}\n" for file in files)
            pattern = r"(?:^      - (?:osr|pipeline)/.*\n)+"
            parts[position + 1] = re.sub(pattern, lines, parts[position + 1], count=1, flags=re.MULTILINE)
    return "".join(parts)


if __name__ == "__main__":
    before = DVC_FILE.read_text(encoding="utf-8")
    after = with_code_deps(before)
    DVC_FILE.write_text(after, encoding="utf-8")
    sys.stdout.write(f"dvc.yaml {'was up to date' if after == before else 'changed'}\n")
