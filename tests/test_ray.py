"""Ray Data gives the verdicts of `osr predict`, also when one of its workers is killed."""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engines import MARKER, Mortal, assert_same_verdicts, prepare
from test_predict import exportable, model, run  # noqa: F401 (fixtures)
from test_tables import photos  # noqa: F401 (fixture)

import osr
from osr.errors import InputError
from osr.inference.engines import Scorer
from osr.inference.judgement import Decision

# Ray leaves its processes to the system when it shuts down.
quietly = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def whole(exportable, photos, monkeypatch):  # noqa: ARG001, F811
    """The verdicts of `osr predict`, in shards and not."""
    return prepare(photos, monkeypatch)


@pytest.fixture
def ray(whole, monkeypatch):  # noqa: ARG001, what it set in the environment
    # Ray reads these when it is imported: it listens on this machine alone, and may start slowly.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "300000")
    ray = pytest.importorskip("ray", reason="Ray is not installed: .ci/extras ray")
    pytest.importorskip("ray.data", reason="Ray Data is not installed: .ci/extras ray")
    # Two for the workers; what reads the images needs one of its own.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def collected(dataset) -> pa.Table:
    """All of it as one table, of any order."""
    import ray

    return pa.concat_tables(ray.get(dataset.to_arrow_refs()))


@quietly
@pytest.mark.slow
def test_two_workers_give_the_verdicts_of_predict_and_of_shards(ray, whole):
    dataset = ray.data.read_parquet("photos.parquet").repartition(4)
    found = collected(osr.score_ray(dataset, Path("classifier").resolve(), column="path", num_workers=2))
    assert_same_verdicts(found, whole)
    kept = osr.score_ray(
        dataset, Path("classifier").resolve(), keep=["key"], decision=Decision(threshold=-1e9)
    )
    rows = {row["key"]: row["label"] for row in kept.take_all()}
    assert len(rows) == whole.num_rows
    assert set(rows.values()) == {"unknown", None}


@quietly
@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(ray, whole):
    dataset = ray.data.read_parquet("photos.parquet").repartition(4)
    folder = Path("classifier").resolve()
    found = osr.score_ray(dataset, folder, num_workers=2, column="path", scorer=Mortal)
    assert_same_verdicts(collected(found), whole)
    assert Path(MARKER).exists()


@pytest.mark.parametrize(("name", "extra"), [("score_ray", "ray"), ("score_spark", "spark")])
def test_a_missing_extra_is_one_sentence(name, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(InputError, match=rf"^\w[\w ]* is not installed: pip install 'osr\[{extra}\]'\.$"):
        getattr(osr, name)(None, "classifier")


def test_a_scorer_keeps_columns_and_says_what_it_cannot(whole):
    table = pq.read_table("photos.parquet")
    found = Scorer("classifier", column="path", keep=["key"])(table)
    assert found["key"] == table["key"]
    assert found.drop_columns("key") == whole
    with pytest.raises(InputError, match="The table has no column id, which keep names; its columns are key"):
        Scorer("classifier", keep=["id"])(table)
    for options, sentence in (
        ({"keep": ["label"]}, "keep names label, which the verdicts have, too"),
        ({"version": "0" * 16}, "for this worker, but 0000000000000000 where the job began"),
        ({"decision": Decision("knn")}, "detector is 'knn', but must be one of maxlogit"),
    ):
        with pytest.raises(InputError, match=sentence):
            Scorer("classifier", **options)
