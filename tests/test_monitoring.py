"""The evidence against known images: alarms are rare without unknown ones, whenever one looks."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from extracted import IMAGES
from numpy.testing import assert_allclose
from scipy.stats import beta
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run, write_run  # noqa: F401 (fixtures)

import osr
from osr.errors import InputError
from osr.metrics.monitoring import _ODDS, LEVELS, Monitor
from osr.metrics.thresholds import conformal_p_values
from pipeline import cli
from pipeline.serving.counted import Counted


def stream(
    rng: np.random.Generator, n: int, count: int, shift: float = 0.0, share: float = 0.0
) -> np.ndarray:
    scores = rng.normal(size=count) + shift * (rng.random(count) < share)
    return conformal_p_values(rng.normal(size=n), scores)


@pytest.mark.parametrize("wrong", [(0, 0.01), (10, 1.0), (10, 0.0)])
def test_a_monitor_without_images_or_with_a_sure_alarm_is_refused(wrong) -> None:
    with pytest.raises(InputError, match=r"at least one validation image, and false_alarm in 1e-09\.\.1\."):
        Monitor(*wrong)


def test_alarms_are_rare_while_all_images_are_known() -> None:
    """At 20 % rather than 1 %, so that few streams tell; the share of alarms must not be above it."""
    rng = np.random.default_rng(0)
    for n in (20, 200):
        alarms = 0
        for _ in range(60):
            monitor = Monitor(n, false_alarm=0.2)
            monitor.update(stream(rng, n, 2000))
            alarms += monitor.alarm is not None
        assert alarms <= 12, n


def test_five_per_cent_of_clearly_unknown_images_are_found_within_500() -> None:
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(20):
        monitor = Monitor(2000)
        monitor.update(stream(rng, 2000, 500, shift=5.0, share=0.05))
        alarms.append(monitor.alarm)
    assert all(alarm is not None for alarm in alarms)


def test_what_begins_late_is_found_nearly_as_soon() -> None:
    """Bets that all began with the first image had lost too much by then: 1,000 images were not enough."""
    rng = np.random.default_rng(4)
    for _ in range(5):
        scores = rng.normal(size=1000)
        monitor = Monitor(1000)
        monitor.update(conformal_p_values(scores, rng.normal(size=20_000)))
        assert monitor.alarm is None
        late = rng.normal(size=200) + 4.0 * (rng.random(200) < 0.3)
        monitor.update(conformal_p_values(scores, late))
        assert monitor.alarm is not None


def test_evidence_beyond_all_numbers_is_the_largest() -> None:
    monitor = Monitor(999)
    monitor.update(np.full(1000, 0.001))
    assert monitor.log_evidence > 1000
    assert monitor.evidence == pytest.approx(np.finfo(float).max)


def test_the_evidence_is_the_mean_of_bets_written_out() -> None:
    """Every start of every bet on its own, with its part of the stake, and the part that is left."""
    p_values, n = stream(np.random.default_rng(2), 50, 40, 3.0, 0.3), 50
    left = [1 / (1 + math.log(1 + number)) for number in range(41)]
    monitor = Monitor(n)
    path = monitor.update(p_values)
    ranks = sorted({max(1, int(level * (n + 1))) for level in LEVELS})
    wealth = []
    for rank in ranks:
        q = beta.ppf(1 - 0.01 / 2 / len(ranks), rank, n + 1 - rank)
        for times in _ODDS:
            rate = q / (1 - q) * times / (1 + q / (1 - q) * times)
            bets = [rate / q if round(p * (n + 1)) <= rank else (1 - rate) / (1 - q) for p in p_values]
            starts = [(left[k] - left[k + 1]) * math.prod(bets[k:]) for k in range(len(bets))]
            wealth.append(left[-1] + sum(starts))
    assert_allclose(path[-1], math.log(np.mean(wealth)), rtol=1e-9)
    assert monitor.evidence == pytest.approx(np.mean(wealth))


def test_a_monitor_begins_without_evidence_and_bets_on_four_levels() -> None:
    """Other levels or alternatives are other evidence in the files of those who monitor."""
    new = Monitor(999)
    assert (new.false_alarm, new.num_images, new.evidence, new.alarm, new.limit) == (0.01, 0, 1, None, 200)
    assert_allclose(new.levels, [0.001, 0.005, 0.02, 0.1])
    assert_allclose(new.bounds, beta.ppf(1 - 0.01 / 8, [1, 5, 20, 100], [999, 995, 980, 900]))
    assert new.log_wealth.tolist() == np.full((4, 10), -np.inf).tolist()
    assert_allclose(_ODDS, 1.3 * (300 / 1.3) ** (np.arange(10) / 9))
    assert Monitor(4).levels.tolist() == [1 / 5]
    assert new.update([]).shape == (0,)
    assert new.num_images == 0


def test_the_alarm_is_the_first_and_stays() -> None:
    """A p-value that is a level but for rounding reaches it; after the alarm known images change nothing."""
    monitor = Monitor(999)
    path = np.concatenate(
        [monitor.update(part) for part in ([0.9], [0.001 + 5e-10] * 9, [0.9] * 500, [0.001] * 9)]
    )
    assert monitor.alarm == int(np.argmax(path >= np.log(200))) + 1 <= 10
    assert path[1] > path[0]
    assert path[509] < np.log(200)
    assert path[-1] == monitor.log_evidence
    assert monitor.num_images == len(path) == 519
    goes_on = Monitor(999, 0.01, 519, monitor.log_wealth, monitor.log_evidence, monitor.alarm)
    assert_allclose(goes_on.update([0.5]), monitor.update([0.5]))
    assert goes_on.alarm == monitor.alarm


def test_how_a_stream_is_cut_changes_nothing() -> None:
    p_values = stream(np.random.default_rng(3), 500, 900, 4.0, 0.1)
    whole, parts = Monitor(500), Monitor(500)
    path = whole.update(p_values)
    pieces = np.concatenate([parts.update(piece) for piece in np.split(p_values, [0, 1, 7, 7, 400])])
    assert_allclose(pieces, path, rtol=1e-9, atol=1e-9)
    assert whole.alarm == parts.alarm == int(np.argmax(path >= np.log(200))) + 1
    assert (whole.num_images, parts.num_images) == (900, 900)


@pytest.mark.parametrize("p_values", [[0.0], [1.1], [math.nan], [[0.5]]])
def test_what_is_no_p_value_is_refused(p_values: list) -> None:
    with pytest.raises(InputError, match="p-values must be"):
        Monitor(10).update(p_values)


@pytest.fixture
def verdicts(folder) -> Path:  # noqa: F811
    """Verdicts on 30 images, in all formats; the images are called otherwise in each."""
    for form in ("csv", "jsonl", "json", "parquet"):
        for number in range(30):
            png(Path(f"{form}/{form}{number:02}.png"), number)
        Path(f"{form}/x.png").write_text("no image")
        cli.main(["predict", form, "--model", str(folder), "--format", form, "--output", f"v.{form}"])
    return folder


def monitor(*arguments: str) -> int:
    return cli.main(["monitor", "--model", "classifier", *arguments])


@pytest.mark.usefixtures("verdicts")
def test_calls_go_on_where_the_last_one_ended(capsys) -> None:
    known = osr.load("classifier").scores["maxlogit"]
    expected = Monitor(len(known))
    p_values = osr.load("classifier").predict(IMAGES).p_values
    for file in ("v.csv", "v.jsonl", "v.json", "v.parquet"):
        capsys.readouterr()
        status = monitor(file, "--state", "s.json", "--format", "json", "--plot", "evidence.png")
        expected.update(p_values)
        told = json.loads(capsys.readouterr().out)
        assert told["evidence"] == pytest.approx(expected.evidence)
        assert (told["images"], told["alarm"]) == (expected.num_images, expected.alarm)
        assert status == (0 if expected.alarm is None else 3)
    assert Path("evidence.png").stat().st_size > 1000
    assert monitor("v.csv", "--state", "s.json") == 1
    assert "v.csv was counted before, as v.csv: no image may count twice" in capsys.readouterr().err
    assert monitor("v.csv") in (0, 3)
    assert "30 images, " in capsys.readouterr().out


def test_what_is_promised_is_that_of_the_detector_that_judged(exportable, model, capsys) -> None:  # noqa: F811
    write_run(exportable, model, targets={"mahalanobis": 0.9})
    png(Path("new/a.png"))
    assert cli.main(["export", "classifier"]) == 0
    for name, promised in (("maxlogit", "33.3%"), ("mahalanobis", "10.0%")):
        chosen = ["--detector", name]
        assert cli.main(["predict", "new", "--model", "classifier", "--output", "v.csv", *chosen]) == 0
        assert monitor("v.csv", *chosen) == 0
        assert f"rejected where known images would be {promised}, judging by " in capsys.readouterr().out


@pytest.mark.usefixtures("verdicts")
def test_no_image_counts_twice(capsys) -> None:
    """Of which file it comes, in which order and by which threshold, and where the folder lies."""
    header, *rows = Path("v.csv").read_text().splitlines()
    Path("mixed.csv").write_text("\n".join([header, *reversed(rows)]))
    Path("double.csv").write_text("\n".join([header, *rows, *rows]))
    Path("later").mkdir()
    Path("csv").rename("later/csv")
    judged = ["predict", "later/csv", "--model", "classifier", "--output", "again.csv", "--accept", "0.5"]
    assert cli.main(judged) == 1
    before = "was counted before, and so were 29 more of its"
    for files, told in (
        (
            ["v.csv", "mixed.csv"],
            f"mixed.csv, row 2: csv/csv29.png {before} 30 images: no image may count twice.",
        ),
        (["double.csv"], f"double.csv, row 32: csv/csv00.png {before} 60 images"),
        (["v.csv", "again.csv"], "again.csv, row 1: later/csv/csv00.png was counted before"),
    ):
        for state in ([], ["--state", "s.json"]):
            capsys.readouterr()
            assert monitor(*files, *state) == 1
            assert told in capsys.readouterr().err
            assert not Path("s.json").exists()
    assert monitor("v.csv", "--state", "s.json") in (0, 3)
    assert monitor("again.csv", "--state", "s.json") == 1
    Path("one.csv").write_text("\n".join([header, rows[0]]))
    assert monitor("one.csv", "--state", "s.json") in (0, 3), "a single one can be chance"


def test_the_newest_images_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr("pipeline.serving.counted.MOST", 10)
    counted, rows, scores = Counted(), list(range(1, 21)), np.arange(20.0)
    names = [f"{number}.png" for number in rows]
    counted.add(Path("a.csv"), rows, names, scores)
    counted = Counted(counted.text)
    assert len(counted.text) == 108, "eight bytes an image"
    counted.add(Path("a.csv"), rows[:10], names[:10], scores[:10])
    with pytest.raises(
        InputError, match=r"a.csv, row 5: 5.png was counted before, and so were 5 more of its 6"
    ):
        counted.add(Path("a.csv"), rows[4:10], names[4:10], scores[4:10])


@pytest.mark.usefixtures("verdicts")
def test_what_is_not_of_this_classifier_is_refused(capsys) -> None:
    rows = list(csv.reader(Path("v.csv").read_text().splitlines()))
    rows[1][2] = "1.5"
    Path("other.csv").write_text("\n".join(",".join(row) for row in rows))
    Path("bad.csv").write_text("a,b\n1,2\n")
    Path("bad.json").write_text("[[")
    Path("bad.parquet").write_text("no table")
    for name in ("empty.csv", "nul.csv"):
        Path(name).write_bytes(b"" if name == "empty.csv" else bytes(100))
    monitor("v.csv", "--state", "s.json")
    state = Path("s.json").read_text()
    for arguments, sentence in (
        (["other.csv"], "other.csv, row 1, column p_value: "),
        (
            ["v.csv", "--detector", "mahalanobis"],
            "by mahalanobis: somebody changed the row, or another class",
        ),
        (["gone.csv"], "gone.csv is missing"),
        (["empty.csv"], "empty.csv holds no judged image"),
        (["nul.csv"], "nul.csv holds no"),
        (["v.jsonl", "--state", "s.json", "--plot", "e.docx"], "--plot e.docx must end in .png, .pdf, .svg."),
        (["v.jsonl", "--state", "s.svg", "--plot", "s.svg"], "--state and --plot are both s.svg"),
        (["bad.csv"], "bad.csv holds no verdicts"),
        (["bad.json"], "bad.json holds no verdicts"),
        (["bad.parquet"], "bad.parquet holds no verdicts"),
        (
            ["v.jsonl", "--state", "s.json", "--false-alarm", "0.1"],
            "s.json goes on with false_alarm 0.01, not 0.1",
        ),
        (
            ["v.jsonl", "--state", "s.json", "--detector", "mahalanobis"],
            "s.json goes on with detector maxlogit",
        ),
    ):
        capsys.readouterr()
        assert monitor(*arguments) == 1, arguments
        assert sentence in capsys.readouterr().err
    assert Path("s.json").read_text() == state
    Path("s.json").write_text(state.replace('"num_images": 30', '"num_images": 3'))
    assert monitor("v.jsonl", "--state", "s.json") == 1
    assert "s.json was changed" in capsys.readouterr().err
