"""Tables of images to tables of verdicts, and `osr predict` in shards, whole or not at all."""

import csv
import os
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extracted import IMAGES
from numpy.testing import assert_allclose
from pyarrow import dataset
from test_predict import exportable, load, model, png, run  # noqa: F401 (fixtures)

import osr
from osr.errors import InputError
from osr.inference.judgement import Decision
from osr.inference.tables import verdict_schema
from pipeline import cli
from pipeline.serving import predict as serving

NUM_IMAGES = 25  # batches of 7 of the fixture's classifier
SHARDS = 4


@pytest.fixture
def photos(run, monkeypatch):  # noqa: F811
    """Images in a folder, one of them broken, and the same in a table."""
    for number in range(NUM_IMAGES):
        png(run / f"photos/{number:02}.png", number)
    (run / "photos/11.png").write_text("no image")
    files = [f"photos/{number:02}.png" for number in range(NUM_IMAGES)]
    table = pa.table({"path": files, "bytes": [Path(file).read_bytes() for file in files]})
    pq.write_table(table, "photos.parquet", row_group_size=4)
    text = Path("params.yaml").read_text().replace("batch_size: 512", "batch_size: 7")
    Path("params.yaml").write_text(text)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return table


def predict(*arguments: str) -> int:
    return cli.main(["predict", "--workers", "0", "--detector", "maxlogit", *arguments])


def in_shards(*arguments: str, form: str = "parquet") -> list[int]:
    return [
        predict(*arguments, "--shard", f"{number}/{SHARDS}", "--out", "out", "--format", form)
        for number in range(1, SHARDS + 1)
    ]


def files() -> list[Path]:
    return sorted(Path("out").glob("verdicts-*"))


def test_a_table_has_the_verdicts_of_predict(photos):
    predict("photos.parquet", "--column", "path", "--format", "parquet", "--output", "v.parquet")
    found = osr.score_table(load(), photos, column="path")
    assert found == pq.read_table("v.parquet")
    assert found.schema == verdict_schema(found.column_names)
    assert found.column_names == [
        "file",
        "label",
        "score",
        "p_value",
        "nearest",
        "p/a",
        "p/b",
        "p/c",
        "reason",
    ]
    broken = found.slice(11, 1).to_pylist()[0]
    assert "photos/11.png" in broken.pop("reason")
    assert broken.pop("file") == "photos/11.png"
    assert set(broken.values()) == {None}
    verdicts = load().predict([IMAGES[number] for number in range(7)])
    assert found["score"].to_pylist()[:7] == verdicts.scores.tolist()
    assert tuple(found["label"].to_pylist()[:7]) == verdicts.labels


def test_bytes_and_batches_of_a_table_have_the_same_verdicts(photos):
    classifier, whole = load(), osr.score_table(load(), photos, column="path")
    names = whole.column_names[1:-1]
    by_bytes = osr.score_table(classifier, photos)
    assert by_bytes.select(names) == whole.select(names)
    assert by_bytes["file"].to_pylist() == [str(row) for row in range(NUM_IMAGES)]
    parts = [osr.score_table(classifier, photos.slice(start, 14), column="path") for start in (0, 14)]
    assert pa.concat_tables(parts) == whole
    one = osr.score_table(classifier, photos.slice(3, 1).to_batches()[0], column="path")
    assert_allclose(one["score"].to_pylist(), whole["score"].to_pylist()[3:4], rtol=1e-5)
    assert osr.score_table(classifier, photos.slice(0, 0)).schema == whole.schema


def test_a_table_is_judged_as_is_asked(photos):
    strict = osr.score_table(load(), photos, column="path", decision=Decision(threshold=-1e9))
    assert set(strict["label"].to_pylist()) == {"unknown", None}
    for options, sentence in (
        ({"column": "x"}, r"^The table has no column x: name one with column, of path, bytes\.$"),
        ({"decision": Decision("knn")}, "detector is 'knn', but must be one of maxlogit"),
    ):
        with pytest.raises(InputError, match=sentence):
            osr.score_table(load(), photos, **options)


@pytest.mark.parametrize("given", ["photos", "photos.parquet", "photos/*.png"])
@pytest.mark.usefixtures("photos")
def test_shards_together_are_the_whole(given):
    predict(given, "--format", "parquet", "--output", "v.parquet")
    assert sorted(in_shards(given)) == [0, 0, 0, 1]  # one image is broken
    whole, parts = pq.read_table("v.parquet"), [pq.read_table(file) for file in files()]
    assert [part.num_rows for part in parts] == [7, 7, 7, 4]
    assert pa.concat_tables(parts) == whole
    assert dataset.dataset("out").to_table() == whole
    assert not list(Path("out").glob(".*"))


@pytest.mark.usefixtures("photos")
def test_more_shards_than_batches_and_shards_across_arguments():
    predict("photos/03.png", "photos.parquet", "photos/04.png", "--output", "v.csv")
    for number in range(1, 7):
        predict("photos/03.png", "photos.parquet", "photos/04.png", "--shard", f"{number}/6", "--out", "out")
    rows = [list(csv.reader(file.read_text().splitlines()))[1:] for file in files()]
    assert sorted(map(len, rows)) == [0, 0, 6, 7, 7, 7]
    whole = list(csv.reader(Path("v.csv").read_text().splitlines()))[1:]
    assert [row for part in rows for row in part] == whole


@pytest.mark.usefixtures("photos")
def test_a_finished_shard_is_not_done_again(caplog):
    caplog.set_level("INFO")
    in_shards("photos")
    before = {file: file.stat().st_mtime_ns for file in files()}
    files()[2].unlink()
    assert in_shards("photos") == [0, 0, 0, 0]
    assert {file for file in files() if file.stat().st_mtime_ns != before[file]} == {files()[2]}
    assert caplog.text.count("is there already") == SHARDS - 1


@pytest.mark.usefixtures("photos")
def test_a_folder_holds_the_shards_of_one_call(capsys):
    assert predict("photos", "--shard", "1/4", "--out", "out") == 0
    for arguments, told in (
        (("photos", "--shard", "1/3"), "its shards is 4, but here it is 3"),
        (("photos", "--shard", "2/4", "--threshold", "1"), "its threshold is"),
        (("photos/*.png", "--shard", "2/4"), "its paths is ['photos'], but here it is ['photos/*.png']"),
    ):
        assert predict(*arguments, "--out", "out") == 1
        assert f"out holds shards of another call: {told}" in capsys.readouterr().err
    assert len(files()) == 1


@pytest.mark.usefixtures("photos")
def test_a_shard_is_done_again_when_its_images_have_changed(caplog):
    in_shards("photos")
    before = {file: file.read_bytes() for file in files()}
    png(Path("photos/08.png"), 3)
    assert sorted(in_shards("photos")) == [0, 0, 0, 1]
    assert [file for file in files() if file.read_bytes() != before[file]] == [files()[1]]
    assert "verdicts-00002-of-00004.parquet is of images that have changed since" in caplog.text
    predict("photos", "--format", "parquet", "--output", "v.parquet")
    assert pa.concat_tables(map(pq.read_table, files())) == pq.read_table("v.parquet")


@pytest.mark.parametrize("given", ["photos", "photos/*.png", "photos.parquet"])
def test_a_folder_of_shards_is_of_the_images_it_began_with(given, photos, capsys):
    predict(given, "--shard", "1/4", "--out", "out")
    Path("photos/24.png").rename("photos/240.png")
    pq.write_table(photos, "photos.parquet", row_group_size=5)
    assert predict(given, "--shard", "2/4", "--out", "out") == 1
    assert "out holds shards of another call: its names is" in capsys.readouterr().err


@pytest.mark.usefixtures("photos")
def test_a_folder_of_shards_is_of_one_set_of_weights(capsys, monkeypatch):
    predict("photos", "--shard", "1/4", "--out", "out")
    plain = serving.load_classifier

    def other(*arguments, **options):
        found = plain(*arguments, **options)
        made_from = found.parts.made_from.model_copy(update={"weights": "0" * 16})
        found.parts = found.parts._replace(made_from=made_from)
        return found

    monkeypatch.setattr(serving, "load_classifier", other)
    assert predict("photos", "--shard", "1/4", "--out", "out") == 1
    assert "out holds shards of another call: its classifier is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--shard", "1/4"), "--shard and --out go together"),
        (("--out", "out"), "--shard and --out go together"),
        (
            ("--shard", "1/4", "--out", "out", "--output", "v.csv"),
            "--output does not go with --shard: a shard",
        ),
        (("--shard", "1/4", "--out", "out", "--gallery", "g.html"), "--gallery does not go with --shard"),
        (("--shard", "1/4", "--out", "out", "--fdr", "0.1"), "--fdr does not go with --shard: it decides"),
        (("-", "--shard", "1/4", "--out", "out"), "--shard needs to know how many images there are"),
        (("--shard", "1/4", "--out", "photos/00.png"), "photos/00.png lies in photos, which is read"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_what_does_not_go_with_shards_is_refused(arguments, sentence, capsys):
    assert predict("photos", *arguments) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_shards_are_numbered_from_one(text, capsys):
    with pytest.raises(SystemExit):
        predict("photos", f"--shard={text}", "--out", "out")
    assert f"must be a number out of a number, such as 3/8, not {text}" in capsys.readouterr().err


@pytest.mark.usefixtures("photos")
def test_a_killed_shard_leaves_nothing_half_and_is_done_again():
    assert sorted(in_shards("photos")) == [0, 0, 0, 1]
    before = {file: file.read_bytes() for file in files()}
    gone = files()[1]
    gone.unlink()
    pid = os.fork()
    if pid == 0:
        plain = serving.records

        def ends(*arguments, **options):
            yield from plain(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        serving.records = ends
        predict("photos", "--shard", "2/4", "--out", "out", "--format", "parquet")
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert gone not in files()
    in_shards("photos")
    assert {file: file.read_bytes() for file in files()} == before
    assert not list(Path("out").glob(".*"))
