"""What each stage reads and writes, once. dvc.yaml names the same files; a test compares them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ARTIFACTS = Path("artifacts")
SPLIT = ARTIFACTS / "split"
IMAGES = SPLIT / "images.npy"
IMAGE_FILES = SPLIT / "files.jsonl"
KNOWN_SOURCES = SPLIT / "known_sources"  # a folder each, with images and labels
ODD_IMAGES = SPLIT / "odd_images.csv"
BAD_IMAGES = ARTIFACTS / "bad_images.csv"  # of a stage that they stopped, whose own folder does not stay
CONTACT_SHEET = SPLIT / "contact_sheet.png"
NEAR_COPIES, NEAR_COPIES_SHEET = SPLIT / "near_copies.csv", SPLIT / "near_copies.png"
MODEL = ARTIFACTS / "model"
WEIGHTS = MODEL / "model.safetensors"
HISTORY = MODEL / "history.csv"
INITIAL_WEIGHTS = MODEL / "initial_weights.json"  # of a local file: its path and sha256
FEATURES = MODEL / "features"  # of a frozen backbone: index.npy and features.npy per part
CALIBRATION = ARTIFACTS / "calibration"
CALIBRATOR = CALIBRATION / "calibration.json"
VAL_OUTPUTS = CALIBRATION / "val"
DETECTORS = ARTIFACTS / "detectors"
THRESHOLDS = DETECTORS / "thresholds.json"
TRAIN_OUTPUTS = DETECTORS / "train"
BACKGROUND_OUTPUTS = DETECTORS / "background"
VAL_SCORES = DETECTORS / "validation_scores.safetensors"
EVALUATION = ARTIFACTS / "evaluation"
TEST_OUTPUTS = EVALUATION / "test"
CONFUSION = EVALUATION / "confusion.json"
PER_CLASS = EVALUATION / "per_class.json"
PER_CLASS_TABLE = EVALUATION / "per_class.csv"
ESTIMATE = EVALUATION / "estimate.json"
SCORES = EVALUATION / "scores.safetensors"
CURVES = ARTIFACTS / "curves"
LEADERBOARD = ARTIFACTS / "leaderboard"
JUDGE, JUDGE_TEXT = LEADERBOARD / "judge.json", LEADERBOARD / "judge.md"  # with plot.detector: auto
FIGURES = Path("figures")
VECTOR = ARTIFACTS / "vector"
REPORT = ARTIFACTS / "report.html"
METRICS = Path("metrics")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
DVC_FILE = Path("dvc.yaml")
VERSION_FILE = Path("osr.version")  # of a project of `osr init`: stands for the code of all stages


@dataclass(frozen=True)
class Stage:
    """One DVC stage as MLflow sees it.

    Args:
        name: as in dvc.yaml.
        results: folders and files that it writes, besides its metrics; a folder is replaced as a whole.
        folder: of its results, which say what they were made from.
        artifacts: files and folders that are copied to the MLflow row.
        checkpoint: the weights file, uploaded once per content and linked afterwards.
        history: a CSV with a column `epoch` and one column per curve.
        made_from: what the files in the folder were made from: fields of `osr.stored.origin.Origin`.
    """

    name: str
    results: tuple[Path, ...]
    folder: Path | None = None
    artifacts: tuple[Path, ...] = ()
    checkpoint: Path | None = None
    history: Path | None = None
    made_from: tuple[str, ...] = ()

    @property
    def metrics(self) -> Path:
        """The DVC metrics file that every stage writes."""
        return METRICS / f"{self.name}.json"

    @property
    def outs(self) -> tuple[Path, ...]:
        """All that the stage writes; the metrics come last."""
        return (*self.results, self.metrics)


_CURVES = tuple(CURVES / kind for kind in ("oscr", "roc", "precision_recall"))
_DRAWN = (LEADERBOARD, REPORT, VECTOR, FIGURES)
STAGES = {
    stage.name: stage
    for stage in (
        Stage("prepare-split", (SPLIT,), artifacts=(SPLIT / "split.json", CONTACT_SHEET)),
        Stage(
            "train",
            (MODEL,),
            folder=MODEL,
            artifacts=(HISTORY,),
            checkpoint=WEIGHTS,
            history=HISTORY,
            made_from=("split",),
        ),
        Stage(
            "calibrate",
            (CALIBRATION,),
            folder=CALIBRATION,
            artifacts=(CALIBRATOR,),
            made_from=("split", "weights"),
        ),
        Stage(
            "fit-openmax",
            (DETECTORS,),
            folder=DETECTORS,
            artifacts=(THRESHOLDS,),
            made_from=("split", "weights"),
        ),
        Stage(
            "evaluate",
            (EVALUATION,),
            folder=EVALUATION,
            artifacts=(CONFUSION, PER_CLASS, PER_CLASS_TABLE),
            made_from=("split", "weights", "calibration", "thresholds"),
        ),
        Stage("plot", (*_CURVES, *_DRAWN), artifacts=(CURVES, *_DRAWN)),
    )
}
