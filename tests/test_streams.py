"""Any number of images through `osr predict`: what it is given, in what order, and what comes of it."""

import base64
import csv
import io
import json
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extracted import IMAGES
from numpy.testing import assert_array_equal
from PIL import Image
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, load, model, png, run  # noqa: F401 (fixtures)

import osr
from osr.data.image_files import MAX_PIXELS
from osr.errors import InputError
from osr.frame import Frame
from osr.inference.judgement import Decision
from osr.inference.streams import Reader, Source, read_ahead
from pipeline import cli
from pipeline.serving import gallery
from pipeline.serving.sources import open_sources

READER = Reader(Frame(6), 1, MAX_PIXELS)


def predict(*arguments: str) -> int:
    return cli.main(["predict", *arguments])


def rows(file: str = "v.csv") -> list[dict[str, str]]:
    return list(csv.DictReader(Path(file).read_text().splitlines()))


def table(file: Path, **columns: list) -> None:
    pq.write_table(pa.table(columns), file)


def names(*given: str, column: str | None = None) -> list[str]:
    sources = open_sources(given, column=column)
    items = list(sources.items)
    assert sources.total in (None, len(items))
    return [source.name for source in items]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_come_in_order_and_hold_the_same_whatever_the_workers(
    tmp_path: Path, num_workers: int
) -> None:
    for number in range(9):
        png(tmp_path / f"{number}.png", number)
    (tmp_path / "4.png").write_text("no image")
    given = [Source(str(tmp_path / f"{number}.png")) for number in range(9)]
    given.insert(2, Source("from bytes", (tmp_path / "8.png").read_bytes()))
    given.insert(3, Source("nothing", reason="there is none"))
    batches = list(read_ahead(iter(given), READER, batch_size=4, num_workers=num_workers))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    found = [read for batch in batches for read in batch]
    assert [read.name for read in found] == [source.name for source in given]
    for read, number in zip(found, [0, 1, 8, None, 2, 3, None, 5, 6, 7, 8], strict=True):
        if number is None:
            assert read.pixels is None
            assert read.reason in ("there is none", found[6].reason)
        else:
            assert_array_equal(read.pixels, IMAGES[number])


def test_sources_are_taken_as_they_are_needed() -> None:
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Source("", b"")

    for num_workers in (0, 2):
        taken.clear()
        batches = read_ahead(endless(), READER, batch_size=10, num_workers=num_workers)
        next(batches)
        assert len(taken) <= 10 * (1 + 2 * num_workers + 1)
        batches.close()


def test_files_folders_patterns_lists_and_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b/2.png", "b/10.png", "b/deep/ä 1.png", "c[1].png"):
        png(Path(name))
    Path("b/notes.txt").write_text("no image")
    content = Path("b/2.png").read_bytes()
    assert names("c[1].png", "b") == ["c[1].png", "b/10.png", "b/2.png", "b/deep/ä 1.png"]
    assert names("b/*") == ["b/10.png", "b/2.png", "b/notes.txt"]
    assert names("b/**/*.png") == ["b/10.png", "b/2.png", "b/deep/ä 1.png"]
    with io.TextIOWrapper(io.BytesIO(b"b/2.png\r\n\n\xff.png\n")) as listed:
        monkeypatch.setattr(sys, "stdin", listed)
        assert names("-", "c[1].png") == ["b/2.png", os.fsdecode(b"\xff.png"), "c[1].png"]

    table(Path("b/t.parquet"), path=["2.png", "c[1].png", "gone.png"], n=[1, 2, 3])
    assert names("b/t.parquet") == ["b/2.png", "c[1].png", "gone.png"]
    pairs = [{"path": "x.png", "bytes": content}, {"path": "b/2.png", "bytes": None}, None]
    table(Path("t.parquet"), image=pairs, raw=[content, None, content])
    assert names("t.parquet") == ["t.parquet:0/x.png", "b/2.png", "t.parquet:2"]
    found = list(open_sources(["t.parquet"], column="raw").items)
    assert found[:2] == [
        Source("t.parquet:0", content),
        Source("t.parquet:1", reason="t.parquet:1 must hold a path or the bytes of a file, not None."),
    ]


@pytest.mark.parametrize(
    ("given", "column", "sentence"),
    [
        ("none/*.png", None, "none/*.png matches no file."),
        ("gone.png", None, "gone.png does not exist."),
        ("bad.parquet", None, "bad.parquet is no Parquet file that can be read: "),
        (
            "t.parquet",
            None,
            "t.parquet has no column image or bytes or path or file: name one with --column, of n",
        ),
        ("t.parquet", "x", "t.parquet has no column x: name one with --column, of n."),
    ],
)
def test_what_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, column: str | None, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(Path("t.parquet"), n=[1])
    Path("bad.parquet").write_text("no table")
    with pytest.raises(InputError) as caught:
        open_sources([given], column=column)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["new", "./new/deep/b.png"], "1 files are named more than once, such as new/deep/b.png:"),
        (["new/a.png", "new/*.png", "new"], "1 files are named more than once, such as new/a.png:"),
        (["new/a.png", "new/deep"], ""),
        (["new"], ""),
    ],
)
def test_files_that_several_arguments_name_are_told_of(tmp_path, monkeypatch, caplog, given, told):
    monkeypatch.chdir(tmp_path)
    for name in ("new/a.png", "new/deep/b.png"):
        png(Path(name))
    open_sources(given)
    assert bool(told) == bool(caplog.text)
    assert told in caplog.text


def test_a_table_that_ends_early_keeps_the_earlier_verdicts(run, capsys):  # noqa: F811
    png(run / "a.png")
    table(run / "t.parquet", path=["a.png"] * 5000)
    content = (run / "t.parquet").read_bytes()
    (run / "t.parquet").write_bytes(content[:40] + b"\xff" * 30 + content[70:])
    Path("v.csv").write_text("earlier")
    assert predict("t.parquet", "--output", "v.csv") == 1
    assert "t.parquet cannot be read after row" in capsys.readouterr().err
    assert Path("v.csv").read_text() == "earlier"


def test_every_format_holds_the_same(run, capsys):  # noqa: F811
    for number in range(4):
        png(run / f"new/{number}.png", number)
    (run / "new/2.png").write_text("no image")
    forms = ("csv", "json", "jsonl", "parquet")
    for form in forms:
        assert predict("new", "--format", form, "--output", f"v.{form}") == 1
    listed = json.loads(Path("v.json").read_text())
    assert [json.loads(line) for line in Path("v.jsonl").read_text().splitlines()] == listed
    assert pq.read_table("v.parquet").to_pylist() == listed
    texts = [{key: "" if value is None else str(value) for key, value in row.items()} for row in listed]
    assert rows() == texts
    assert list(listed[0]) == ["file", "label", "score", "p_value", "nearest", "p/a", "p/b", "p/c", "reason"]
    expected = load().predict(IMAGES[[0, 1, 3]])
    readable = [row for row in listed if row["reason"] is None]
    assert [row["score"] for row in readable] == expected.scores.tolist()
    assert [row["p_value"] for row in readable] == expected.p_values.tolist()
    for form in forms[:3]:  # on standard output
        capsys.readouterr()
        predict("new", "--format", form)
        assert capsys.readouterr().out == Path(f"v.{form}").read_text()
    assert predict("new", "--format", "parquet") == 1
    assert "--format parquet needs --output FILE." in capsys.readouterr().err


@pytest.mark.usefixtures("run")
def test_no_image_is_an_empty_table_and_status_1(monkeypatch):
    for form, content in (("csv", ""), ("json", "[]\n"), ("jsonl", "")):
        with io.TextIOWrapper(io.BytesIO()) as listed:
            monkeypatch.setattr(sys, "stdin", listed)
            assert predict("-", "--format", form, "--output", "v") == 1
        assert Path("v").read_text() == content


@pytest.mark.parametrize(
    ("option", "value"), [("--threshold", "1e9"), ("--accept", "0.5"), ("--p-value", "0.5"), (None, None)]
)
def test_the_decision_is_the_classifiers_and_the_summary_says_what_it_promises(
    run,  # noqa: F811
    caplog,
    option: str | None,
    value: str | None,
):
    for number in range(8):
        png(run / f"new/{number}.png", number)
    caplog.set_level("INFO")
    asked = [] if option is None else [option, value]
    assert predict("new", *asked, "--output", "v.csv") == 0
    key = {} if option is None else {option[2:].replace("-", "_"): float(value)}
    expected = load().predict(IMAGES[:8], **key)
    assert [row["label"] for row in rows()] == list(expected.labels)
    rejected = expected.labels.count("unknown")
    promised = load().expected_rejection(Decision(**key))
    assert promised == pytest.approx(
        {None: 1 / 3, "--threshold": 0, "--accept": 0.5, "--p-value": 15 / 31}[option]
    )
    told = f"unknown: {rejected}; {rejected / 8:.1%} rejected. "
    told += f"Of known images {promised:.1%} should be rejected, "
    count = len(load().scores[load().detector])
    told += f"judging by {count} known images held out; "
    told += f"no p-value is below 1/{count + 1} ({1 / (count + 1):.2g})"
    assert told in caplog.text
    assert "8 images: " in caplog.text


def test_two_decisions_at_once_are_refused(run, capsys):  # noqa: F811
    with pytest.raises(SystemExit):
        predict("x.png", "--accept", "0.9", "--p-value", "0.1")
    assert "argument --p-value: not allowed with argument --accept" in capsys.readouterr().err
    png(run / "a.png")
    with pytest.raises(SystemExit):
        predict("a.png", "--accept", "1.5")
    assert "--accept: must be above 0 and at most 1, such as 0.95, not 1.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "new/0.png"], "new/0.png has the name of an image, and would replace it"),
        (["--output", "classifier/classifier.json"], "lies in the exported classifier"),
        (["--output", "v.csv", "--gallery", "classifier/x.html"], "lies in the exported classifier"),
    ],
)
def test_verdicts_replace_neither_images_nor_the_classifier(folder, arguments, said, capsys):  # noqa: F811
    png(Path("new/0.png"))
    files = {path: path.read_bytes() for path in (*folder.rglob("*.*"), Path("new/0.png"))}
    assert predict("new", "--model", str(folder), *arguments) == 1
    assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (*folder.rglob("*.*"), Path("new/0.png"))} == files


def test_an_exported_folder_judges_far_from_the_project(folder, capsys):  # noqa: F811
    for number in range(5):
        png(Path(f"new/{number}.png"), number)
    assert predict("new", "--model", str(folder), "--output", "v.csv", "--detector", "mahalanobis") == 0
    expected = osr.load(folder).predict(IMAGES[:5], detector="mahalanobis")
    assert [float(row["score"]) for row in rows()] == expected.scores.tolist()
    assert predict("new", "--model", str(folder), "--detector", "vim") == 1
    assert (
        "detector is 'vim', but must be one of maxlogit, mahalanobis: those that detectors.enabled named"
        in capsys.readouterr().err
    )


def test_the_gallery_shows_both_sides_of_the_threshold(run, monkeypatch):  # noqa: F811
    monkeypatch.setattr(gallery, "SHOWN", 3)
    for number in range(30):
        png(run / f"<b>/{number}.png", number)
    assert predict("<b>", "--output", "v.csv", "--gallery", "page.html") == 0
    page = Path("page.html").read_text()
    assert page.count("<img ") == 6
    assert "&lt;b&gt;/" in page
    assert "<b>/" not in page
    for is_unknown in (True, False):
        of_kind = [row for row in rows() if (row["label"] == "unknown") == is_unknown]
        best = sorted(of_kind, key=lambda row: -float(row["score"]))[:3]
        places = [page.index(row["file"].replace("<b>", "&lt;b&gt;") + "</li>") for row in best]
        assert places == sorted(places)
    picture = base64.b64decode(page.split("base64,")[1].split('"')[0])
    assert Image.open(io.BytesIO(picture)).size == (96, 96)
