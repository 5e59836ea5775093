"""Tables of verdicts that somebody changed: each row that the classifier cannot have written is named."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import check_section
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run  # noqa: F401 (fixtures)

import osr
from osr.errors import InputError
from pipeline import cli
from pipeline.serving.verdict_reader import read_verdicts

HEADING = "Tables of verdicts that somebody changed"
INTRODUCTION = (
    "`pytest -n 0 tests/test_verdict_reader.py` changes single cells of a table of `osr predict`, which\n"
    "`osr monitor` and `osr discover` then refuse by row and column. They also refuse rows that no one\n"
    "threshold can have parted, and rows that say different things of one file. A row whose score and\n"
    "p-value are both replaced by those of another score is not seen: a table has no digest, so keep it\n"
    "where nobody else writes.\n\n"
    "| column | what is said |\n|---|---|\n"
)
Row = dict[str, str]
DIGITS = "1" + "0" * 399
CLASSES = "unknown, a, b, c"


@pytest.fixture
def table(folder) -> list[Row]:  # noqa: F811
    """Verdicts on 30 images, 10 of them unknown, and one file that is no image."""
    for number in range(30):
        png(Path(f"new/{number:02}.png"), number)
    Path("new/99.png").write_text("no image")
    assert cli.main(["predict", "new", "--model", str(folder), "--output", "v.csv"]) == 1
    return list(csv.DictReader(Path("v.csv").read_text().splitlines()))


def change(column: str, value: object) -> Callable[[Row], None]:
    return lambda row: row.update({column: value})


CHANGES = {
    "label: must be one of " + CLASSES + ", not 'dog'": change("label", "dog"),
    "label: must be one of " + CLASSES + ", not ''": change("label", ""),
    "label: must be unknown or the nearest class": lambda row: row.update(
        label="abc"["bca".index(row["nearest"])]
    ),
    "nearest: must be one of a, b, c, not 'dog'": change("nearest", "dog"),
    "nearest: must be one of a, b, c, not 'unknown'": change("nearest", "unknown"),
    "score: must be a finite number, not 'nan'": change("score", "nan"),
    "score: must be a finite number, not '-inf'": change("score", "-inf"),
    "score: must be a finite number, not '1e999'": change("score", "1e999"),
    "score: must be a finite number, not 'much'": change("score", "much"),
    "score: must be a finite number, not ''": change("score", ""),
    f"score: must be a finite number, not '{DIGITS[:40]}'": change("score", DIGITS),
    "p_value: must be a finite number, not 'inf'": change("p_value", "inf"),
    "p_value: 0.5, but a score of": change("p_value", "0.5"),
    "p_value: 1e-300, but a score of": change("p_value", "1e-300"),
    "p_value: 4.94066e-324, but a score of": change("p_value", "5e-324"),
}


@pytest.mark.parametrize("command", ["monitor", "discover"])
def test_a_changed_row_is_named_with_its_column(table, folder, capsys, command) -> None:  # noqa: F811
    ask = {
        "monitor": ["monitor", "changed.csv", "--model", str(folder), "--state", "s.json"],
        "discover": ["discover", str(folder), "--verdicts", "changed.csv", "--out", "found"],
    }[command]
    lines = []
    for number, (sentence, act) in enumerate(CHANGES.items()):
        rows = [dict(row) for row in table]
        act(rows[number])
        write(rows)
        capsys.readouterr()
        assert cli.main(ask) == 1, sentence
        said = capsys.readouterr().err
        assert f"ERROR: changed.csv, row {number + 1}, column {sentence}" in said
        lines.append(f"| {sentence.split(':')[0]} | *… row N, column {shown(sentence)} …* |")
    assert not Path("s.json").exists()
    assert not Path("found").exists()
    check_section("reliability.md", HEADING, INTRODUCTION + "\n".join(lines))


def shown(sentence: str) -> str:
    return sentence.replace("|", "\\|")


def write(rows: list[Row]) -> None:
    with Path("changed.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_a_label_that_no_threshold_can_have_given(table, folder) -> None:  # noqa: F811
    classifier = osr.load(folder)
    scores = [float(row["score"] or "nan") for row in table]
    for place, label in ((int(np.nanargmin(scores)), "unknown"), (int(np.nanargmax(scores)), "")):
        rows = [dict(row) for row in table]
        rows[place]["label"] = label or rows[place]["nearest"]
        write(rows)
        with pytest.raises(
            InputError, match=r"row \d+, column label: '[abc]' at a score of .* but row \d+ is"
        ):
            read_verdicts(Path("changed.csv"), classifier, ("maxlogit",))


@pytest.mark.usefixtures("table")
def test_what_predict_wrote_is_read_whatever_decided(folder) -> None:  # noqa: F811
    classifier = osr.load(folder)
    for asked in (["--accept", "0.5"], ["--p-value", "0.5"], ["--fdr", "0.5"], ["--threshold=-1e9"]):
        chosen = ["--detector", "mahalanobis", *asked]
        assert cli.main(["predict", "new", "--model", str(folder), "--output", "w.jsonl", *chosen]) == 1
        found = read_verdicts(Path("w.jsonl"), classifier, classifier.detectors)
        assert (len(found.rows), found.rows[0], len(found.scores)) == (30, 1, 30)
        with pytest.raises(InputError, match="by maxlogit: somebody changed the row, or another classifier"):
            read_verdicts(Path("w.jsonl"), classifier, ("maxlogit",))


def test_a_table_of_another_classifier_is_called_so(table, folder) -> None:  # noqa: F811
    others = [row | {"score": str(float(row["score"]) + 1)} for row in table if row["label"]]
    write(others)
    classifier = osr.load(folder)
    told = r"changed\.csv is of another classifier: in \d+ of 30 rows .* \(maxlogit, mahalanobis\)"
    with pytest.raises(InputError, match=told):
        read_verdicts(Path("changed.csv"), classifier, classifier.detectors)


def test_numbers_of_json_that_no_float_holds(table, folder) -> None:  # noqa: F811
    Path("w.json").write_text(json.dumps([table[0] | {"score": 7}]).replace(": 7", f": {DIGITS}"))
    with pytest.raises(InputError, match="row 1, column score: must be a finite number"):
        read_verdicts(Path("w.json"), osr.load(folder), ("maxlogit",))


def test_one_file_in_two_rows_must_be_said_the_same_of(table, folder, capsys) -> None:  # noqa: F811
    rejected = next(row for row in table if row["label"] == "unknown")
    accepted = next(row for row in table if row["label"] not in ("", "unknown"))
    write([*table, accepted | {"file": rejected["file"]}])
    assert cli.main(["discover", str(folder), "--verdicts", "changed.csv", "--out", "found"]) == 1
    assert f"column label: '{accepted['label']}', but another row of {rejected['file']} says" in (
        capsys.readouterr().err
    )
