"""Tables of the documents beside what their command prints: which numbers are compared."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from dvc_project import clone_of_this

from osr.errors import InputError
from pipeline import cli
from pipeline.experiments.ledger import LEDGER, Printed, load_ledger
from pipeline.experiments.reproduce_tables import compared, section, tables

ROOT = Path(__file__).parents[1]
TABLES = load_ledger(ROOT / LEDGER).tables
PAGE = """# Page

| other | x |
|---|---|
| a | 1 |

## Two words, `code`

| recipe | `AUROC` | minutes |
|---|---:|---:|
| `one` | 0.9428 [0.92, 0.96] | 0.11 |
| two | **−0.0022** ± 0.1 | 0.20 |
| three | | 3 |

### Below

| n | images |
|---|---|
| 1 | 3,852 / - |

## Next

| recipe | AUROC | minutes |
|---|---|---|
| four | 1 | 1 |
"""


def of(**changes: object) -> Printed:
    held = {
        "title": "t",
        "page": "page.md#two-words-code",
        "command": "true",
        "commit": "0123456",
        "hardware": "h",
        "minutes": 1.0,
        "not_compared": ["minutes"],
        "tolerance": 0.01,
    }
    return Printed.model_validate(held | changes)


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    return section(tmp_path, "page.md#two-words-code")


def printed(one: str = "0.95", two: str = "-0.01", images: str = "3,852") -> str:
    return (
        f"training\n| recipe | AUROC | minutes |\n|---|---|---|\n| one | {one} | 9 |\n| two | {two} | 9 |\n"
        f"\n| n | images |\n| 1 | {images} / 7 |\n"
    )


def test_each_first_number_of_the_section_is_compared_with_that_of_its_row_and_column(page: str) -> None:
    verdicts = compared("x", of(), tables(page), tables(printed()))
    assert [(v.number.name, v.number.value, v.found) for v in verdicts] == [
        ("AUROC one", 0.9428, 0.95),
        ("AUROC two", -0.0022, -0.01),
        ("images 1", 3852.0, 3852.0),
    ]
    assert all(verdict.holds for verdict in verdicts)


@pytest.mark.parametrize(
    "other", [printed(one="0.953"), printed(two="0.01"), printed(images="3,851"), printed(one="-")]
)
def test_a_number_that_differs_or_is_not_printed_is_not_met(page: str, other: str) -> None:
    verdicts = compared("x", of(), tables(page), tables(other))
    assert [verdict.holds for verdict in verdicts].count(False) == 1


def test_columns_of_one_name_are_told_apart_by_their_places() -> None:
    text = "| way | AUROC | difference | accuracy | difference |\n| one | 1 | 2 | 3 | {} |\n"
    verdicts = compared("x", of(), tables(text.format(4)), tables(text.format(5)))
    assert [(v.number.metric, v.number.value, v.found) for v in verdicts] == [
        ("AUROC", 1.0, 1.0),
        ("AUROC difference", 2.0, 2.0),
        ("accuracy", 3.0, 3.0),
        ("accuracy difference", 4.0, 5.0),
    ]


def test_a_row_that_is_not_printed_is_not_met(page: str) -> None:
    other = printed().replace("| two |", "| 2 |")
    assert [v.found for v in compared("x", of(), tables(page), tables(other))] == [0.95, None, 3852.0]


def test_rows_that_are_named_are_compared_alone() -> None:
    page = "| recipe | AUROC |\n| one | 0.9 |\n| `two` *† | 0.8 |\n| mean | 0.85 |\n"
    verdicts = compared("x", of(rows=["two"]), tables(page), tables("| recipe | AUROC |\n| two | 0.8 |\n"))
    assert [(v.number.name, v.found) for v in verdicts] == [("AUROC two", 0.8)]


def test_rows_of_the_ledger_are_on_their_page() -> None:
    for name, entry in TABLES.items():
        of_page = {
            row[0].strip("`*† ") for table in tables(section(ROOT / "docs", entry.page)) for row in table.rows
        }
        assert set(entry.rows) <= of_page, name


def test_a_command_that_prints_no_table_of_the_page_is_refused(page: str) -> None:
    with pytest.raises(InputError, match=r"printed no table with the columns of one in page\.md"):
        compared("x", of(), tables(page), tables("| recipe | AUROC |\n| one | 0.9428 |\n"))


@pytest.mark.parametrize("place", ["page.md#nothing", "none.md", "none.md#page"])
def test_a_place_that_is_not_there_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "page.md").write_text(PAGE, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(place.partition("#")[0])):
        section(tmp_path, place)


def test_a_row_of_other_length_is_refused() -> None:
    with pytest.raises(InputError, match="1 cells under 2 columns"):
        tables("| a | b |\n| 1 |\n")


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_tables_and_says_what_makes_them(name: str) -> None:
    held = TABLES[name]
    text = section(ROOT / "docs", held.page)
    assert list(tables(text)), held.page
    fenced = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    shown = {" ".join(part.replace("\\\n", " ").split()) for part in (*fenced, *inline)}
    command = " ".join(held.command.replace("\\\n", " ").split())
    assert shown & {command, f"osr reproduce {name}"}, f"{held.page} does not say `osr reproduce {name}`"
    for column in held.not_compared:
        assert any(column in table.columns for table in tables(text)), column


def test_settings_are_refused_for_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["reproduce", "monitoring", "-S", "train.seed=1"]) == 1
    assert "monitoring is a table of thresholds.md" in capsys.readouterr().err


def test_a_missing_file_is_named_before_anything_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", "discovery_fashion"]) == 1
    assert "discovery_fashion needs data/fashion_mnist_40k.npz" in capsys.readouterr().err


@pytest.mark.ci
@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs a clone")
def test_a_command_runs_in_a_clone_and_its_numbers_are_judged(tmp_path: Path) -> None:
    project = clone_of_this(tmp_path / "osr")
    said = project.python("pipeline.cli", "reproduce", "openmax_programs")
    assert "9 of 9 numbers met" in said
    assert project.run("git", "status", "--porcelain") == "", "the project itself is as it was"
