"""Sections of pages in docs/ that tests make: `OSR_WRITE_PAGES=1 pytest …` writes what a test found."""

import os
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def check_section(page: str, heading: str, text: str, *, counts: bool = False) -> None:
    """Compare the section of a page with what was found; write it first if that is wanted.

    With `counts`, which every new setting changes, only the first column of the table is compared.
    """
    if os.environ.get("OSR_WRITE_PAGES"):
        write_section(page, heading, text)
    _, after = (DOCS / page).read_text(encoding="utf-8").split(f"## {heading}\n\n", 1)
    held = after.split("\n## ", 1)[0]
    if counts:
        assert re.findall(r"^\| [^|]*\|", held, re.MULTILINE) == re.findall(
            r"^\| [^|]*\|", text, re.MULTILINE
        )
    else:
        assert held.strip() == text.strip()


def write_section(page: str, heading: str, text: str) -> None:
    """Replace the section of a page, up to the next heading of its kind, or add it at the end."""
    path = DOCS / page
    before = path.read_text(encoding="utf-8").rstrip() + "\n"
    section = f"## {heading}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(heading)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if pattern.search(before):
        after = pattern.sub(lambda _: section + "\n", before)
    else:
        after = f"{before}\n{section}"
    path.write_text(after.rstrip() + "\n", encoding="utf-8")
