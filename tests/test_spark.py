"""Spark gives the verdicts of `osr predict`: in Arrow, in pandas, and through the model that MLflow holds."""

import shutil
import sys
from pathlib import Path

import pytest
from engines import MARKER, Mortal, assert_same_verdicts, prepare
from numpy.testing import assert_allclose
from test_predict import exportable, model, run  # noqa: F401 (fixtures)
from test_tables import photos  # noqa: F401 (fixture)

import osr
from osr.errors import InputError
from pipeline.serving.register import save_model

pytestmark = [
    pytest.mark.slow,
    # What PySpark says of pandas 3, and MLflow of its own type hints.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*type hint.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def whole(exportable, photos, monkeypatch):  # noqa: ARG001, F811
    """The verdicts of `osr predict`, in shards and not."""
    return prepare(photos, monkeypatch)


@pytest.fixture
def spark(whole, monkeypatch):  # noqa: ARG001, what it set in the environment
    sql = pytest.importorskip("pyspark.sql", reason="Spark is not installed: .ci/extras spark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java: apt-get install default-jre-headless")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = (
        sql.SparkSession.builder.master("local[2,2]")  # a task that failed is begun once more
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "7")
        .getOrCreate()
    )
    yield session
    session.stop()


@pytest.mark.parametrize("through", ["arrow", "pandas"])
def test_two_workers_give_the_verdicts_of_predict_and_of_shards(spark, whole, through):
    frame = spark.read.parquet(str(Path("photos.parquet").resolve())).repartition(2)
    folder = Path("classifier").resolve()
    assert_same_verdicts(osr.score_spark(frame, folder, column="path", through=through).toArrow(), whole)
    by_bytes = osr.score_spark(frame, folder, keep=["key"], through=through).collect()
    labels = dict(zip([f"key {row}" for row in range(len(whole))], whole["label"].to_pylist(), strict=True))
    assert {row["key"]: row["label"] for row in by_bytes} == labels
    with pytest.raises(InputError, match="The frame has no column id, which keep names; its columns are key"):
        osr.score_spark(frame, folder, keep=["id"])
    with pytest.raises(InputError, match="frame must be a data frame of Spark, not list"):
        osr.score_spark([], folder)
    with pytest.raises(InputError, match="through is 'numpy', but must be one of arrow, pandas"):
        osr.score_spark(frame, folder, through="numpy")


def test_a_killed_worker_costs_nothing_but_time(spark, whole):
    frame = spark.read.parquet(str(Path("photos.parquet").resolve())).repartition(2)
    folder = Path("classifier").resolve()
    assert_same_verdicts(osr.score_spark(frame, folder, column="path", scorer=Mortal).toArrow(), whole)
    assert Path(MARKER).exists()


def test_the_function_of_mlflow_gives_the_same_verdicts(spark, whole, tmp_path):
    from mlflow.pyfunc import spark_udf

    threshold = osr.load("classifier").threshold()
    save_model(tmp_path / "model", Path("classifier"), "small_convnet", threshold=threshold, channels=1)
    judge = spark_udf(spark, str(tmp_path / "model"), env_manager="local")
    frame = spark.read.parquet(str(Path("photos.parquet").resolve())).repartition(2)
    readable = [row for row in whole.to_pylist() if row["label"] is not None]
    files = {row["file"] for row in readable}
    found = {
        row["path"]: row["verdict"]
        for row in frame.filter(frame.path.isin(files)).withColumn("verdict", judge("bytes")).collect()
    }
    assert found.keys() == files
    for row in readable:
        mine = found[row["file"]]
        assert (mine["label"], mine["nearest"]) == (row["label"], row["nearest"])
        assert_allclose(mine["score"], row["score"], rtol=1e-5)
        for name, share in mine["probabilities"].items():
            assert_allclose(share, row[f"p/{name}"], rtol=1e-5, atol=1e-7)
