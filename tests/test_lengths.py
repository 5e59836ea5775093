"""The house: no file of Python over 300 lines, no function over 60."""

import ast
import subprocess

import pytest
from code_deps import ROOT

LONGEST_FILE, LONGEST_FUNCTION = 300, 60
# What was longer when this test was written. Nothing is added here, and what was shortened is taken out.
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Every tracked file of Python that is there, by its path."""
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, check=True)
    names = listed.stdout.decode().split("\0")[:-1]
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if (ROOT / name).exists()}


def test_files_are_short(sources: dict[str, str]) -> None:
    lengths = {name: len(text.splitlines()) for name, text in sources.items()}
    compare({name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}, LONG_FILES)


def test_functions_are_short(sources: dict[str, str]) -> None:
    """From `def` to the last line; decorators, which hold the cases of a test, are not counted."""
    found = {
        f"{name} {node.name}": lines
        for name, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION
    }
    compare(found, LONG_FUNCTIONS)


def compare(found: dict[str, int], known: set[str]) -> None:
    too_long = {name: lines for name, lines in found.items() if name not in known}
    assert not too_long, f"too long, in lines: {too_long}"
    shortened = known - found.keys()
    assert not shortened, f"short by now, so no exceptions any more: {sorted(shortened)}"
