"""README, docs/ and --help: commands parse, settings and files exist, code imports, links lead somewhere."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from osr.params import check_params
from osr.settings.reading import read_yaml
from pipeline.cli import make_parser
from pipeline.examples import EXAMPLES
from pipeline.experiments.ledger import LEDGER, load_ledger
from pipeline.experiments.named import names_in

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("runtime/*.md"))
    if path.name not in ("log.md", "CHANGELOG.md")  # they say what was typed then
)
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]
SEPARATORS = re.compile(r"\s(?:&&|\|\||;)\s|\s\|\s|;\s*do\s|\s&$")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\!)\[[^\]]+\]\(([^)\s]+)\)|\!\[[^\]]*\]\(([^)\s]+)\)")
MODULE = re.compile(r"python3? -m ((?:benchmarks|pipeline|tests|osr)[\w.]*)")
TEST_FILE = re.compile(r"\b(tests/test_\w+\.py)")
PARAMS = read_yaml(ROOT / "params.yaml")
NAMED = {"--preset": set(names_in(ROOT / "presets")), "sweep": set(names_in(ROOT / "sweeps"))}
NAMED["sweep"] |= {  # those that a page shows how to write
    name
    for path in PAGES
    for name in re.findall(r"^# sweeps/(\w+)\.yaml$", path.read_text(encoding="utf-8"), re.MULTILINE)
}
NAMED |= {"preset": NAMED["--preset"], "reproduce": set(load_ledger(ROOT / LEDGER).every())}


def blocks(path: Path, *languages: str) -> list[str]:
    return [
        body for language, body in BLOCK.findall(path.read_text(encoding="utf-8")) if language in languages
    ]


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of shell text, as words; what stands in $(...) comes by itself."""
    for line in text.replace("\\\n", " ").splitlines():
        inner = re.findall(r"\$\(([^()]*)\)", line)
        bare = re.sub(r"\$\w+", "1", re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line))
        for part in (*inner, *SEPARATORS.split(bare)):
            yield shlex.split(part, comments=True)


def osr_commands(text: str) -> Iterator[list[str]]:
    for words in commands(text):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words[:1] == ["osr"]:
            into = {n + 1 for n, word in enumerate(words) if re.fullmatch(r"[0-9]?[<>]+", word)}
            kept = [word for n, word in enumerate(words) if n not in into]
            yield [word for word in kept[1:] if not re.match(r"[0-9]?[<>]", word)]


def refusal(words: list[str]) -> str | None:
    """What `osr` says of arguments that it does not take."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            make_parser().parse_args(words)
    except SystemExit as ended:
        return said.getvalue() if ended.code else None
    return None


def unknown_keys(words: list[str]) -> list[str]:
    """Keys after -S that params.yaml does not have; below an open section (`options: {}`) all are good."""
    found = []
    for flag, text in pairwise(words):
        if flag != "-S" or "=" not in text:
            continue
        held: object = PARAMS
        for part in text.partition("=")[0].lstrip("+~").split("."):
            if held == {}:
                break
            if not isinstance(held, dict) or part not in held:
                found.append(text)
                break
            held = held[part]
    return found


def unknown_names(words: list[str]) -> list[str]:
    """Presets, sweeps and results that are named and do not exist."""
    pairs = [(flag, name) for flag, name in pairwise(words) if flag in NAMED]
    return [name for kind, name in pairs if name[0] != "-" and name != "NAME" and name not in NAMED[kind]]


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_osr_takes_the_commands_that_are_shown(path: Path) -> None:
    for text in blocks(path, "sh", "bash", "console"):
        for words in osr_commands(text):
            assert refusal(words) is None, shlex.join(words)
            assert not unknown_names(words), shlex.join(words)


def test_there_are_commands_to_look_at() -> None:
    found = [words for path in PAGES for text in blocks(path, "sh") for words in osr_commands(text)]
    assert len(found) > 50
    assert {words[0] for words in found} > {"run", "predict", "export", "serve", "compare", "sweep", "init"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_osr_takes_the_examples_of_its_help(name: str) -> None:
    lines = [line.split("     ")[0] for line in EXAMPLES[name].replace("\\\n", " ").splitlines()]
    found = list(osr_commands("\n".join(line for line in lines if line.startswith("osr "))))
    assert found, "no example"
    for words in found:
        assert refusal(words) is None, shlex.join(words)
        assert not unknown_names(words), shlex.join(words)


def merged(below: dict[str, object], above: dict[str, object]) -> dict[str, object]:
    """Settings with those of another file in their place."""
    return below | {
        key: merged(held, value)
        if isinstance(held := below.get(key), dict) and isinstance(value, dict)
        else value
        for key, value in above.items()
    }


def test_lines_of_params_yaml_that_are_shown_are_taken(tmp_path: Path) -> None:
    shown = [text for path in PAGES for text in blocks(path, "yaml") if not text.startswith("# ")]
    assert shown
    for text in shown:
        (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
        check_params(merged(PARAMS, read_yaml(tmp_path / "shown.yaml")), source=text)


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_settings_that_are_shown_exist(path: Path) -> None:
    for text in blocks(path, "sh", "bash", "console"):
        for words in commands(text):
            assert not unknown_keys(words), shlex.join(words)


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_modules_and_tests_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for module in MODULE.findall(text):
        assert importlib.util.find_spec(module.rstrip(".")), module
    for name in TEST_FILE.findall(text):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_python_that_is_shown_compiles_and_finds_what_it_imports(path: Path) -> None:
    for text in blocks(path, "python"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("osr", "pipeline"):
                module = importlib.import_module(node.module or "")
                for name in (alias.name for alias in node.names):
                    is_module = (
                        importlib.util.find_spec(f"{node.module}.{name}")
                        if hasattr(module, "__path__")
                        else None
                    )
                    assert is_module or hasattr(module, name), ast.unparse(node)


@pytest.mark.parametrize("path", PAGES, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for one, other in LINK.findall(text):
        target = one or other
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), target
        if anchor:
            assert anchor in anchors(page), target


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
