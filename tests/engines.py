"""What the tests of Ray and Spark share: images, an exported folder, and whether verdicts are the same."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.testing import assert_allclose

from osr.inference.engines import Scorer
from pipeline import cli

ROOT = Path(__file__).parents[1]
SHARDS = 4
MARKER = "killed"
NEXT_RANK = 1.01 / 31  # of a p-value, with the 30 stored scores of the fixture


class Mortal(Scorer):
    """Ends its process at its second table, as the first of all that come so far."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        self.marker, self.calls = Path(folder).parent / MARKER, 0

    def __call__(self, table: pa.Table) -> pa.Table:
        self.calls += 1
        if self.calls == 2:
            with suppress(FileExistsError):
                self.marker.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(table)


def prepare(photos: pa.Table, monkeypatch) -> pa.Table:
    """Export the run, write photos.parquet with whole paths and a key; the verdicts, in shards and not."""
    paths = [str(Path(path).resolve()) for path in photos["path"].to_pylist()]
    keys = [f"key {number}" for number in range(len(paths))]
    table = pa.table({"key": keys, "path": paths, "bytes": photos["bytes"]})
    pq.write_table(table, "photos.parquet", row_group_size=7)
    assert cli.main(["export", "classifier", "--detector", "maxlogit"]) == 0
    # Workers are other processes, which know nothing of what pytest puts on its path.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = ["--model", "classifier", "--column", "path", "--format", "parquet", "--workers", "0"]
    assert (
        cli.main(["predict", "photos.parquet", *options, "--output", "whole.parquet"]) == 1
    )  # one is broken
    for number in range(1, SHARDS + 1):
        cli.main(["predict", "photos.parquet", *options, "--shard", f"{number}/{SHARDS}", "--out", "out"])
    parts = pa.concat_tables(pq.read_table(file) for file in sorted(Path("out").glob("verdicts-*")))
    whole = pq.read_table("whole.parquet")
    assert parts == whole
    return whole


def assert_same_verdicts(found: pa.Table, whole: pa.Table) -> None:
    """In any order of rows; numbers to the bits that the other images of a batch may change.

    A p-value may move by a rank: the images are those that the stored scores are of, to the last bit.
    """
    assert found.schema.names == whole.schema.names
    found, whole = found.sort_by("file"), whole.sort_by("file")
    for name in whole.schema.names:
        mine, theirs = found[name].to_pylist(), whole[name].to_pylist()
        if pa.types.is_floating(whole.schema.field(name).type):
            assert [value is None for value in mine] == [value is None for value in theirs], name
            numbers = [[value for value in values if value is not None] for values in (mine, theirs)]
            assert_allclose(*numbers, rtol=1e-5, atol=NEXT_RANK if name == "p_value" else 0, err_msg=name)
        else:
            assert mine == theirs, name
