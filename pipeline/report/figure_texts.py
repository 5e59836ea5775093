"""What the report says beside each figure: its heading, and how to read it."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SCORES = 100  # histograms of single detectors come last


@dataclass(frozen=True)
class FigureText:
    """The words around a figure.

    Args:
        place: figures stand in the order of this number.
        title: its heading.
        caption: how to read it; also the text in place of the picture.
    """

    place: int
    title: str
    caption: str


def figure_text(stem: str) -> FigureText:
    """The words for a figure, by the stem of its file; plain ones for a figure without any."""
    if stem.startswith("scores_"):
        name = stem.removeprefix("scores_")
        caption = f"Densities of the {name} scores of test images, known and any unknown, with the threshold."
        return FigureText(FIRST_SCORES, f"Scores of {name}", caption)
    if stem not in TEXTS:
        return FigureText(FIRST_SCORES - 1, stem.replace("_", " ").capitalize(), f"The figure {stem}.")
    place = list(TEXTS).index(stem)
    return FigureText(place, *TEXTS[stem])


TEXTS = {
    "leaderboard": (
        "Detectors compared",
        "Headline metrics of every detector with their intervals, the best on top.",
    ),
    "estimate_leaderboard": (
        "Detectors compared by an estimate",
        "No unknown image was tested. Estimates by leaving known classes out, with intervals over classes: "
        "they may be far off where the network was trained on these classes.",
    ),
    "estimate_classes": (
        "Classes left out, an estimate",
        "No unknown image was tested. Bars per known class that was left out of head, detectors and "
        "threshold, the hardest on top: AUROC against the classes that remained, and the share of its images "
        "accepted as one of them.",
    ),
    "oscr": (
        "Open-set classification rate",
        "Share of knowns accepted and classified right, against the share of unknowns accepted; the upper "
        "left corner is best. A curve for each detector, or for the six with the largest AUROC and the judge "
        "of new images. The legend gives the area under each curve; the band is the interval of each point "
        "of one curve.",
    ),
    "oscr_log": (
        "Open-set classification rate, few unknowns accepted",
        "The same curves with the share of unknowns accepted on a logarithmic axis, which shows strict "
        "thresholds.",
    ),
    "risk_coverage": (
        "Risk and coverage",
        "Share of wrong images among the accepted ones, misclassified knowns and unknowns (where no unknown "
        "image was tested, misclassified knowns alone), against the share of all test images that is "
        "accepted; lower is better. The legend gives the area under each curve, the smallest first; the "
        "dotted line is the risk where everything is accepted.",
    ),
    "roc": (
        "Unknowns against knowns",
        "Share of unknowns rejected, against the share of knowns rejected; the upper left corner is best, "
        "the dotted diagonal is chance.",
    ),
    "precision_recall": (
        "Precision and recall of unknowns",
        "Share of unknowns among the rejected images, against the share of unknowns that are rejected; the "
        "dotted line is chance.",
    ),
    "classes_known": (
        "Known classes",
        "Bars per known class, the worst on top: images whose class is predicted right, images accepted, and "
        "images accepted and right. The table of known classes has the numbers.",
    ),
    "classes_unknown": (
        "Unknown classes",
        "Bars per unknown class, the hardest on top: AUROC against all knowns, and the share of images "
        "wrongly accepted as known. The table of unknown classes has the numbers.",
    ),
    "class_scores": (
        "Scores of each class",
        "The density of the scores of every class on a line of its own, knowns first, with the threshold: "
        "known classes belong left of it, unknown ones right of it.",
    ),
    "confusion": (
        "Decisions",
        "Images per true class and decision, unknown as last row and column; the diagonal is right.",
    ),
    "shifts": (
        "Shifted known images",
        "Known test images under corruptions of rising severity: the share classified right, and the share "
        "accepted as known beside that of the unknown sets (dashed). Where images are still classified right "
        "but no longer accepted, the detector rejects the corruption, not an unknown class.",
    ),
    "reliability": (
        "Calibration",
        "Accuracy against confidence of known test images, before and after calibration; on the diagonal "
        "probabilities mean what they say.",
    ),
    "training": (
        "Training",
        "Loss and accuracy of training and validation images in each epoch, the kept one marked. A probe "
        "(train.regime) has no epochs: there each step is a penalty that was tried, the first the largest.",
    ),
    "tsne": (
        "Features, t-SNE",
        "Test features in the plane: known classes in colour, any unknowns as black crosses. Distances "
        "between far clusters mean nothing.",
    ),
    "umap": (
        "Features, UMAP",
        "Test features in the plane by UMAP: known classes in colour, any unknowns as black crosses.",
    ),
}
