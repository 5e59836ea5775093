"""What the rules get: AUROC, and regret against the best detector in hindsight."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.judge_rules import RULES, by_class, by_regime, together
from benchmarks.judge_scores import Scores
from benchmarks.judge_settings import SETTINGS
from osr.metrics.groups import Groups
from osr.metrics.metric_ends import Units, metric_ends
from osr.plots.style import BLUE, GREEN, PAGE_WIDTH, REFERENCE, VERMILLION, canvas, save, styled

Result = tuple[float, float, float]
NORMAL, DPI = 1.96, 150
FIRST = "the same, with an ensemble"  # what the table shows beside what is taken now
LATER = (
    *("MNIST B/3", "MNIST B/4", "Fashion mixed six, tuned", "GTSRB 40/3, tuned", "CIFAR-10 8/2, tuned"),
    *(f"CIFAR-10 A/{trial}, tuned" for trial in range(1, 5)),
)
GROUPS = {
    "the choosing *": lambda setting: setting.chooses,
    "the confirming": lambda setting: setting.confirms,
    "frozen, confirming": lambda setting: setting.confirms and setting.regime == "frozen",
    "trained, confirming": lambda setting: setting.confirms and setting.regime == "trained",
    "tuned, confirming": lambda setting: setting.confirms and setting.regime == "tuned",
    "those after the rule by regime †": lambda setting: setting.name in LATER,
    "all": lambda _setting: True,
}


def outcome(scores: Scores, members: Sequence[int]) -> Result:
    """AUROC of a choice, its regret, and how far it is above maxlogit in half-widths of the interval.

    Args:
        scores: of the setting.
        members: rows of one detector or of several.
    """
    if len(members) == 1:
        auroc, covariance = scores.truth()
        row = members[0]
    else:
        rows = list(members)
        auroc, covariance = scores.truth(together(scores.test[rows], scores.train[rows]))
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
        if rule.startswith("columns removed") and not all(len(scores.removed) for scores in found.values()):
            continue  # only the choosing settings have these scores
        regrets, below = {}, []
        for name, scores in found.items():
            _, regrets[name], above = outcome(scores, choose(scores))
            if above < -1:
                below.append(name)
        means = []
        for regime in ("frozen", "trained", "tuned"):
            part = [value for name, value in regrets.items() if SETTINGS[name].regime == regime]
            means.append(f"{np.mean(part):.3f}" if part else "–")
        each = " ".join(f"{value:.3f}" for value in regrets.values()) if len(found) < 8 else ""
        mean, worst = np.mean(list(regrets.values())), max(regrets, key=regrets.__getitem__)
        cells = (rule, f"{mean:.3f}", *means, f"{regrets[worst]:.3f} ({worst})", str(len(below)), each)
        rows.append(f"| {' | '.join(cells)} |")
    head = "| rule | mean regret | frozen | trained | tuned | largest | clearly below maxlogit | each |"
    return "\n".join([", ".join(found), "", head, "|---|---:|---:|---:|---:|---|---:|---|", *rows, ""])


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
    stem.parent.mkdir(parents=True, exist_ok=True)
    rows = {name: Row.of(scores, SETTINGS[name].regime) for name, scores in found.items()}
    stem.with_suffix(".md").write_text(to_markdown(rows), encoding="utf-8")
    with stem.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["setting", "detector", "auroc", "low", "high", "left_out_auroc"])
        for name, scores in found.items():
            estimates = by_class(scores).mean(axis=1)
            for line in zip(scores.names.tolist(), *ends(scores), estimates, strict=True):
                writer.writerow([name, line[0], *(f"{value:.4f}" for value in line[1:])])
    with styled():
        save(draw(rows), stem.with_suffix(".png"), DPI)


@dataclass(frozen=True)
class Row:
    """One setting.

    Args:
        aurocs: detector -> its AUROC and the ends of its interval.
        accuracy: on known test images.
        best: the best detector in hindsight.
        chosen: what the first rule takes, and the one by regime: a detector or the members of the ensemble.
        results: of both: AUROC, regret, and how far above maxlogit, in half-widths of the interval of this.
    """

    aurocs: Mapping[str, tuple[float, float, float]]
    accuracy: float
    best: str
    chosen: tuple[str, str]
    results: tuple[Result, Result]

    @classmethod
    def of(cls, scores: Scores, regime: str) -> Row:
        """What the rules of the table take, and what it gets."""
        names = scores.names.tolist()
        aurocs = dict(zip(names, zip(*(part.tolist() for part in ends(scores)), strict=True), strict=True))
        first, now = RULES[FIRST](scores), by_regime(scores, regime)
        return cls(
            aurocs,
            float(scores.accuracy),
            max(aurocs, key=lambda detector: aurocs[detector][0]),
            (_named(names, first), _named(names, now)),
            (outcome(scores, first), outcome(scores, now)),
        )

    @property
    def regret(self) -> float:
        """How far maxlogit is below the best in hindsight."""
        return self.aurocs[self.best][0] - self.aurocs["maxlogit"][0]


def to_markdown(rows: Mapping[str, Row]) -> str:
    """One line per setting and the means."""
    lines = [
        "| setting | network | accuracy | best in hindsight | maxlogit | regret | first rule | regret "
        "| by regime, taken now | regret |",
        "|---|---|---:|---|---|---:|---|---:|---|---:|",
    ]
    for name, row in rows.items():
        cells = [
            f"{name}{' *' if SETTINGS[name].chooses else ' †' if name in LATER else ''}",
            SETTINGS[name].regime,
            f"{row.accuracy:.3f}",
            f"{row.best} {_shown(row.aurocs[row.best])}",
            _shown(row.aurocs["maxlogit"]),
            f"{row.regret:.3f}",
        ]
        for chosen, (auroc, regret, above) in zip(row.chosen, row.results, strict=True):
            shown = _shown(row.aurocs[chosen]) if chosen in row.aurocs else f"{auroc:.3f}"
            cells += [f"{chosen} {shown}{' **below**' if above < -1 else ''}", f"{regret:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for title, chosen in GROUPS.items():
        part = [row for name, row in rows.items() if chosen(SETTINGS[name])]
        if part:
            means = [np.mean([row.regret for row in part])]
            means += np.mean([[result[1] for result in row.results] for row in part], axis=0).tolist()
            cells = [f"{value:.3f}" for value in means]
            lines.append(f"| mean of {title} ({len(part)}) | | | | | {' | | '.join(cells)} |")
    lines += [
        "",
        "\\* chose the first rule; the others confirm it, but *unit*, which came later. † ran after the rule "
        "by regime was written down, and confirm that. *below*: below `maxlogit` by more than the interval "
        "of the difference (95 %).",
        "Regret is against the best single detector, which an ensemble may surpass. "
        "`osr reproduce judge` does all of it again, `osr reproduce judge_digits`",
        "the five on digits, `osr reproduce judge_mnist` the ten on MNIST, "
        "`osr reproduce judge_cifar10` the six on CIFAR-10, frozen.",
    ]
    return "\n".join([*lines, ""])


def _named(names: Sequence[str], rows: Sequence[int]) -> str:
    return ", ".join(names[row] for row in rows)


def _shown(interval: tuple[float, float, float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)


def draw(rows: Mapping[str, Row]) -> Figure:
    """Every detector's AUROC, a line per setting; the chosen one and maxlogit stand out."""
    figure = canvas(PAGE_WIDTH, 1.0 + 0.17 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows.values()):
        values = [interval[0] for interval in row.aurocs.values()]
        axes.plot(values, [place] * len(values), "|", color=REFERENCE, markersize=5, zorder=1)
        value, low, high = row.aurocs["maxlogit"]
        axes.hlines(place, low, high, color=VERMILLION, linewidth=1.4, zorder=2)
        axes.plot(value, place, "s", color=VERMILLION, markersize=3.6, zorder=3)
        axes.plot(row.results[0][0], place, "o", color=BLUE, markersize=4, zorder=4)
        axes.plot(row.results[1][0], place, "D", color=GREEN, markersize=3, zorder=5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("AUROC against the true unknown classes")
    for label, marker, colour in (
        ("every detector", "|", REFERENCE),
        ("maxlogit, 95 % interval", "s", VERMILLION),
        ("first rule", "o", BLUE),
        ("by regime, taken now", "D", GREEN),
    ):
        axes.plot([], [], marker, color=colour, markersize=4, label=label)
    figure.legend(loc="outside lower center", ncols=4, fontsize=7)
    return figure
