"""Plain words on whether a classifier can be used as it is: what it gets wrong, and what it lets through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.run_files import RunFiles

FEWEST_RIGHT = 0.8  # of known test images
FEWEST_REJECTED = 0.5  # of unknown ones
CLEARLY_MORE = 0.05  # of the unknown images, by another detector
WORSE_HEAD = 0.05  # accuracy that the heads of the estimate may lack


def verdicts(run: RunFiles) -> list[str]:
    """Sentences on accuracy, on what is accepted, and on what the estimate rests on."""
    found = unfit(run.metrics, run.detector, num_contradictions=len(run.split.contradictions))
    return [*found, *_no_unknowns(run)]


def unfit(metrics: Mapping[str, Any], detector: str, *, num_contradictions: int = 0) -> list[str]:
    """Why a classifier should not be used as it is; nothing where these numbers show no reason.

    Args:
        metrics: of stage evaluate.
        detector: that judges.
        num_contradictions: identical images that are tested as known and as unknown.
    """
    doubtful = _contradictions(num_contradictions)
    return [*doubtful, *_accuracy(metrics), *_accepts_unknowns(metrics, detector)]


def how_to_measure(run: RunFiles) -> str:
    """What tells the rejection of images that the network never saw."""
    if run.params.train.regime == "none":  # it knows all classes, whatever the split says
        return "unknown images of your own (dataset.unknown_sources) measure it"
    return f"`{retrain_command(run)}` measures it with a network that never saw them"


def retrain_command(run: RunFiles) -> str:
    """What trains anew without a fifth of the known classes, which are then tested as unknown."""
    split, count = run.params.split, len(run.split.known)
    left_out = max(1, count // 5)
    lists = [f"-S 'split.{name}=[]'" for name in ("known", "unknown") if getattr(split, name)]
    numbers = f"-S split.num_known={count - left_out} -S split.num_unknown={left_out}"
    return " ".join(["osr run -S split.protocol=random", numbers, *lists])


def _contradictions(count: int) -> list[str]:
    if not count:
        return []
    return [
        f"{count:,} identical images are tested both as known and as unknown, which no detector can tell "
        "apart: the metrics are of that. split.duplicates: drop takes them out."
    ]


def _accuracy(metrics: Mapping[str, Any]) -> list[str]:
    accuracy = metrics["closed_set"]["accuracy"]
    if accuracy >= FEWEST_RIGHT:
        return []
    return [
        f"{1 - accuracy:.0%} of the known test images are given a wrong class: do not use this as it is. The "
        "table of known classes says which; more training, more images of these classes, or trained weights "
        "may help."
    ]


def _accepts_unknowns(metrics: Mapping[str, Any], detector: str) -> list[str]:
    rejected, whose = metrics.get("unknown_rejection", {}), "unknown images"
    if detector not in rejected:
        rejected = metrics.get("estimate", {}).get("unknown_rejection", {})
        whose = "images of classes that were left out (an estimate)"
    if rejected.get(detector, 1.0) >= FEWEST_REJECTED:
        return []
    caution = "chosen by the same estimate"
    if whose == "unknown images":
        caution = "chosen by these images, so measure it with others"
    best, own = max(rejected, key=rejected.__getitem__), rejected[detector]
    told = f"{1 - own:.0%} of the {whose} were accepted as known by {detector}: do not use this as it is."
    ways = [
        "a smaller detectors.target_acceptance, which rejects more knowns, too (the table of other "
        "thresholds says how many)",
        "more or larger images, or other trained weights",
    ]
    if rejected[best] > own + CLEARLY_MORE:
        more = (
            f"plot.detector: {best}, which rejects {rejected[best]:.0%} of them at its threshold ({caution})"
        )
        ways.insert(0, more)
    else:
        told += f" No other detector of this run rejects clearly more (at most {rejected[best]:.0%})."
    return [f"{told} What may help: {'; '.join(ways)}."]


def _no_unknowns(run: RunFiles) -> list[str]:
    if run.has_unknowns:
        return []
    if not run.estimated_classes:
        return [
            "No unknown image was tested, and there is no estimate of what is rejected: "
            f"{run.why_no_estimate}."
        ]
    told = (
        "No unknown image was tested: what is said of rejection is an estimate, from known classes that were "
        "left out in turn."
    )
    if run.params.learns_features:
        told += (
            " The network was trained on these classes, too, so it may be far off, and is mostly too good; "
            f"{how_to_measure(run)}."
        )
    found = [told]
    own, heads = (run.estimate[key] for key in ("accuracy_of_trained_head", "accuracy"))
    if own - heads > WORSE_HEAD:
        found.append(
            f"The heads that were fitted for the estimate classify {heads:.1%} of the images right, the "
            f"trained one {own:.1%}: with the trained one more may be rejected than estimated."
        )
    missing = {name: why for name, why in run.estimate_file["left_out"].items() if name != run.detector}
    return found + [f"No estimate for {name}: {why.rstrip('.')}." for name, why in missing.items()]
