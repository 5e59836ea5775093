"""Pages of the site that stand in no file of docs/: README as its front, the commands, the reference.

mkdocs calls what begins with `on_`: `hooks` in mkdocs.yml names this file.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.cli import make_parser  # noqa: E402

OUTSIDE = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# How much a find counts in a search of the site: stories first, then guides; what is about osr itself last.
SEARCH = {"tutorials/": 8, "reference/commands": 4, "reference/": 0.25, "leaderboard": 0.25, "judge/": 0.25}
LAST = ("log", "quality", "results", "parity", "benchmarks", "how_it_is_built", "contributing", "changelog")
ROOMS = sorted(path.parent.name for path in ROOT.glob("osr/*/__init__.py"))
ALONE = [path.stem for path in sorted(ROOT.glob("osr/*.py")) if path.stem not in ("__init__", "version")]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A page of the reference for each room of osr/; pages of docs/ that are in no menu become guides."""
    sections: dict[str, list[Any]] = {}
    for entry in config["nav"]:
        sections |= entry if isinstance(entry, dict) else {}
    sections["Reference"] += [{"osr": "reference/osr.md"}]
    sections["Reference"] += [{f"osr.{room}": f"reference/{room}.md"} for room in ROOMS]
    named = str(config["nav"])
    pages = [page.name for page in sorted(ROOT.glob("docs/*.md"))]
    sections["Guides"] += [page for page in pages if f"'{page}'" not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    pages = {page: from_root((ROOT / name).read_text(encoding="utf-8")) for page, name in OUTSIDE.items()}
    pages["reference/commands.md"] = "\n".join(commands())
    pages["reference/osr.md"] = room_page("osr", ["osr", *(f"osr.{name}" for name in ALONE)])
    for room in ROOMS:
        modules = [path.stem for path in sorted((ROOT / "osr" / room).glob("*.py"))]
        names = [f"osr.{room}.{name}" for name in modules if name != "__init__"]
        pages[f"reference/{room}.md"] = room_page(f"osr.{room}", names)
    pages["site.css"] = Path(__file__).with_name("site.css").read_text(encoding="utf-8")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def from_root(text: str) -> str:
    """The text of a file of the root, its links as they are from docs/."""
    for page, name in OUTSIDE.items():
        text = text.replace(f"]({name}", f"]({page}")
    return text.replace("](docs/", "](")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links of docs/ to files of the root lead to their pages; the front, alone in its menu, shows none."""
    page.meta["search"] = {"boost": boost(page.file.src_uri)}
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    for page, name in OUTSIDE.items():
        markdown = re.sub(rf"\]\(((?:\.\./)*)\.\./{re.escape(name)}", rf"](\1{page}", markdown)
    return markdown


def boost(page: str) -> float:
    """What a find in a page counts; 4 in a guide."""
    if Path(page).stem in LAST:
        return 0.125
    return next((count for place, count in SEARCH.items() if page.startswith(place)), 4)


def room_page(title: str, modules: list[str]) -> str:
    """What the docstrings of some modules say."""
    return "\n\n".join([f"# {title}", *(f"::: {name}" for name in modules)]) + "\n"


def commands() -> Iterator[str]:
    """What `--help` of each command says."""
    yield "# The commands\n\nWhat `osr COMMAND --help` prints."
    for name, parser in parsers(make_parser()):
        parser.prog = f"osr {name}"
        text = re.sub(r"\x1b\[[0-9;]*m", "", parser.format_help())
        yield f"\n## osr {name}\n\n```text\n{text.rstrip()}\n```"


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, Any]]:
    """The commands by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()
