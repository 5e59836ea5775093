"""What the rules get: AUROC, and regret against the best detector in hindsight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.judge_rules import RULES, together
from benchmarks.judge_scores import Scores
from benchmarks.judge_settings import SETTINGS
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import Units, metric_ends

NORMAL = 1.96


def scale_of(rule: str) -> str:
    """The scale on which a rule puts several scores together."""
    return rule.rsplit(", ", 1)[-1] if ", " in rule else "normal"


def outcome(scores: Scores, members: Sequence[int], scale: str) -> tuple[float, float, float]:
    """AUROC of a choice, its regret, and how far it is above maxlogit in half-widths of the interval.

    Args:
        scores: of the setting.
        members: rows of one detector or of several.
        scale: of several.
    """
    if len(members) == 1:
        auroc, covariance = scores.truth()
        row = members[0]
    else:
        rows = list(members)
        auroc, covariance = scores.truth(together(scores.test[rows], scores.val[rows], scale))
        row = len(auroc) - 1
    base = scores.names.tolist().index("maxlogit")
    variance = covariance[row, row] + covariance[base, base] - 2 * covariance[row, base]
    gap = auroc[row] - auroc[base]
    width = NORMAL * float(np.sqrt(max(variance, 0.0)))
    above = gap / width if width else float(np.sign(gap))
    return float(auroc[row]), float(auroc[: len(scores.names)].max() - auroc[row]), float(above)


def rules_table(found: Mapping[str, Scores]) -> str:
    """One row per rule: mean regret, by regime, the largest, and where it is clearly below maxlogit."""
    rows = []
    for rule, choose in RULES.items():
        regrets, below = {}, []
        for name, scores in found.items():
            _, regrets[name], above = outcome(scores, choose(scores), scale_of(rule))
            if above < -1:
                below.append(name)
        means = []
        for regime in ("frozen", "trained"):
            part = [value for name, value in regrets.items() if SETTINGS[name].regime == regime]
            means.append(f"{np.mean(part):.3f}" if part else "–")
        each = " ".join(f"{value:.3f}" for value in regrets.values()) if len(found) < 8 else ""
        mean, worst = np.mean(list(regrets.values())), max(regrets, key=regrets.__getitem__)
        cells = (rule, f"{mean:.3f}", *means, f"{regrets[worst]:.3f} ({worst})", str(len(below)), each)
        rows.append(f"| {' | '.join(cells)} |")
    head = "| rule | mean regret | frozen | trained | largest | clearly below maxlogit | each |"
    return "\n".join([", ".join(found), "", head, "|---|---:|---:|---:|---|---:|---|", *rows, ""])


def ends(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AUROC of each detector against the true unknowns, (M,), and the ends of its 95 % interval."""
    auroc, covariance = scores.truth()
    groups = Groups.of(scores.groups if len(scores.groups) else None, scores.test_labels)
    known = int((scores.test_labels >= 0).sum())
    counts = known, len(scores.test_labels) - known
    units = Units(*counts) if groups is None else Units(*groups.units, images=min(counts))
    low, high = metric_ends("auroc", auroc, np.diag(covariance), units=units, confidence=0.95)
    return auroc, low, high


def write_results(found: Mapping[str, Scores], stem: Path) -> None:
    """STEM.md, STEM.csv and STEM.png."""
    raise NotImplementedError
