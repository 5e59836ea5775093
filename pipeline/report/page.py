"""One page per run, for a browser: self-contained, the same bytes for the same run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from osr.calibration.calibrators import Temperature
from osr.params import flatten
from osr.plots.style import COLUMN_WIDTH
from osr.plots.thumbnails import inline, thumbnail
from osr.settings.sentences import listed
from osr.splits.openness import openness
from osr.version import VERSION
from pipeline.report import leaderboard
from pipeline.report.cautions import cautions
from pipeline.report.code_state import CodeState, code_state
from pipeline.report.figure_texts import FigureText, figure_text
from pipeline.report.galleries import Pick, accepted_unknowns, rejected_knowns, tiles
from pipeline.report.other_thresholds import other_thresholds
from pipeline.report.risk_tables import costs_table, shifts_table
from pipeline.report.run_files import RunFiles
from pipeline.report.verdicts import how_to_measure
from pipeline.workspace.naming import OWN_DATA, data_set_name
from pipeline.workspace.shipped import in_own_project
from pipeline.workspace.stages import FIGURES
from pipeline.workspace.swap import new

TEMPLATE = Path(__file__).with_name("page.html.jinja")
THRESHOLD_FREE = {"auroc": "AUROC", "auoscr": "AUOSCR", "fpr_at_95tpr_known": "FPR at 95 % TPR"}
INTERVALS = {
    **THRESHOLD_FREE,
    "known_acceptance": "Knowns accepted",
    "unknown_rejection": "Unknowns rejected",
}
AT_THRESHOLD = {"kplus1_macro_f1": "Macro-F1 with unknown"}
RISK_INTERVALS = {
    "aurc": "AURC",
    "augrc": "AUGRC",
    "risk_at_80_coverage": "Risk at 80 % coverage",
    "risk_at_95_coverage": "Risk at 95 % coverage",
    "coverage_at_5_risk": "Coverage at 5 % risk",
}
KNOWN_INTERVALS = {"known_acceptance": "Knowns accepted", "selective_accuracy": "Right among accepted"}
ESTIMATED = {"unknown_rejection": "Unknowns rejected", "auroc": "AUROC", "auoscr": "AUOSCR"}
TITLE_CLASSES = 6  # named in the title
HARDEST = 20  # unknown classes in plain sight; the others are one click away


def write_report(run: RunFiles, path: Path) -> None:
    """Write the page; the figures must be there.

    Args:
        run: its files.
        path: of the page, whose folder exists.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "number": _number, "score": _score, "setting": _setting}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(_content(run))
    aside = path.with_suffix(".part")
    aside.write_text(page, encoding="utf-8")
    aside.replace(path)


def _content(run: RunFiles) -> dict[str, Any]:
    """All that the template reads."""
    state, count = code_state(), run.params.plot.gallery_images
    return {
        "detector": run.detector,
        "confidence_percent": f"{100 * run.params.evaluate.confidence:g}",
        "drawn": run.drawn,
        "title": _title(run),
        "has_unknowns": run.has_unknowns,
        "learned": run.params.learns_features,
        "why_no_estimate": run.why_no_estimate,
        "how_to_measure": how_to_measure(run),
        "estimate": run.estimate,
        "estimated_headline": _estimated_headline(run),
        "estimated_classes": run.estimated_classes,
        "facts": _facts(run, state),
        "changed_settings": _changed(run, state),
        "settings": flatten(run.params),
        "cautions": cautions(run),
        "headline": _headline(run),
        "threshold_free": THRESHOLD_FREE,
        "intervals": INTERVALS,
        "risk_intervals": RISK_INTERVALS,
        "costs": costs_table(run),
        "other_thresholds": other_thresholds(run),
        "shifts": shifts_table(run),
        "known_intervals": KNOWN_INTERVALS,
        "estimated": ESTIMATED,
        "at_threshold": AT_THRESHOLD,
        "asked_and_got": {row["name"]: run.asked_and_got(row["name"]) for row in _headline(run)},
        "closed_set": run.metrics["closed_set"],
        "is_calibrated": run.calibration.asked != "none" and not run.calibration.not_used,
        "sources": _sources(run),
        "known_classes": run.known_classes,
        "unknown_classes": run.unknown_classes,
        "hardest": HARDEST,
        "galleries": {
            "accepted": _gallery(accepted_unknowns(run, count)),
            "rejected": _gallery(rejected_knowns(run, count)),
        },
        "figures": _figures(run.params.plot.dpi),
        "has_umap": new(FIGURES / "umap.png").is_file(),
    }


def _facts(run: RunFiles, state: CodeState) -> dict[str, str]:
    """What was run."""
    split, params = run.split, run.params
    counts = {part: len(split.rows(part)) for part in ("train", "val", "test")}
    num_unknown = int((run.outputs.labels < 0).sum())
    trained = run.trained
    code = state.commit[:12] if state.commit else "not in a git repository"
    if in_own_project():
        code = f"osr {VERSION}; settings {'of commit ' if state.commit else ''}{code}"
    if state.changed:
        code += f", with changes in {', '.join(state.changed)}"
    return {
        "Data set": data_set_name(flatten(run.params)),
        "Protocol": "explicit: the classes that split.known and split.unknown name"
        if params.split.protocol == "explicit"
        else f"{params.split.protocol}, trial {params.split.trial}",
        "Known classes": f"{len(split.known)}: {', '.join(split.known_names)}",
        "Unknown classes": f"{len(run.unknown_classes)} tested (openness "
        f"{openness(len(split.known), len(split.unknown)):.3f}: 0 with none, nearer 1 the more there are)"
        if run.has_unknowns
        else "none tested",
        "Images": f"{counts['train']:,} train, {counts['val']:,} validation, {counts['test']:,} test, "
        f"of which {num_unknown:,} unknown",
        "Split": f"digest {split.digest}, test images {split.test_digest}",
        "Network": f"{params.model.backbone.name}, {trained['parameters']:,} parameters",
        "Training": _training(run),
        "Calibration": _calibration(run),
        "Judge of new images": f"{run.detector}, threshold {run.threshold_in_words(6).replace('-', '−')}: "
        "what scores above it is unknown",
        **({"Chosen": run.choice} if run.choice else {}),
        "Code": code,
    }


def _training(run: RunFiles) -> str:
    """What learned, and which of its states was kept."""
    settings, best = run.params.train, run.trained["best"]["epoch"]
    if settings.regime == "none":
        return "none: the network was given"
    if settings.regime == "probe":
        tried = len(settings.probe.penalties)
        return (
            f"probe: logistic regression on frozen features, penalty {best} of {tried}, from strong to weak"
        )
    return f"loss {settings.loss}, seed {settings.seed}, epoch {best} of at most {settings.epochs} kept"


def _calibration(run: RunFiles) -> str:
    """The method, or that none is used; the temperature where there is one."""
    fit = run.calibration
    if fit.asked == "none" or fit.not_used:
        return "none" if fit.asked == "none" else f"none; {fit.asked} was not used"
    used = fit.calibration
    return f"temperature {used.temperature:.4g}" if isinstance(used, Temperature) else used.method


def _title(run: RunFiles) -> str:
    """The data set with its protocol; the user's own images with their classes."""
    split, names, data = run.params.split, run.split.known_names, data_set_name(flatten(run.params))
    if run.params.dataset.name not in OWN_DATA:
        return f"{data}, protocol {split.protocol}, trial {split.trial}"
    return f"{data}: {listed(names, TITLE_CLASSES)}"


def _changed(run: RunFiles, state: CodeState) -> dict[str, tuple[Any, Any]] | None:
    """Settings that differ from the committed params.yaml: key -> here, there; None when git has none."""
    if state.settings is None:
        return None
    missing = "not set"
    # Through the same YAML types: a tuple of the schema is a list of the file.
    there = {key: _plain(value) for key, value in flatten(state.settings).items()}
    return {
        key: (_plain(value), there.get(key, missing))
        for key, value in flatten(run.params).items()
        if _plain(value) != there.get(key, missing)
    }


def _plain(value: Any) -> Any:
    """Lists for tuples; an entry of `dataset.unknown_sources` says what it leaves out as None."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        plain = {key: _plain(part) for key, part in value.items()}
        return {key: part for key, part in plain.items() if part not in (None, {})}
    return value


def _headline(run: RunFiles) -> list[dict[str, Any]]:
    """One row per detector, the largest AUROC first; without unknown images what knowns show, as listed."""
    if run.has_unknowns:
        names, intervals = leaderboard.order(leaderboard.columns(run.metrics)), tuple(INTERVALS)
    else:
        names, intervals = list(run.params.detectors.enabled), tuple(KNOWN_INTERVALS)
    shares = AT_THRESHOLD if run.has_unknowns else ()
    return [
        {
            "name": name,
            "intervals": _intervals(run.metrics, intervals, name),
            "risks": _intervals(run.metrics, RISK_INTERVALS, name),
            "at_threshold": [run.metrics[metric][name] for metric in shares],
        }
        for name in names
    ]


def _estimated_headline(run: RunFiles) -> list[dict[str, Any]]:
    """One row per detector that has an estimate, the largest AUROC first."""
    if not run.has_estimate:
        return []
    names = leaderboard.order(leaderboard.columns(run.estimate))
    return [{"name": name, "intervals": _intervals(run.estimate, ESTIMATED, name)} for name in names]


def _intervals(metrics: Mapping[str, Any], names: Iterable[str], detector: str) -> list[tuple[float, ...]]:
    return [tuple(metrics[f"{name}{end}"][detector] for end in ("", "_low", "_high")) for name in names]


def _sources(run: RunFiles) -> list[dict[str, Any]]:
    """The detector against each unknown set alone; nothing where there is one set."""
    tables: Mapping[str, Any] = run.metrics.get("sources", {})
    return [
        {
            "name": source,
            "images": int(run.unknowns.of_source(source).sum()),
            "intervals": [
                tuple(metrics[f"{metric}{end}"][run.detector] for end in ("", "_low", "_high"))
                for metric in THRESHOLD_FREE
            ],
            "rejected": metrics["unknown_rejection"][run.detector],
        }
        for source, metrics in tables.items()
    ]


def _gallery(picks: list[Pick]) -> list[tuple[Pick, str]]:
    return [(pick, thumbnail(tile.image)) for pick, tile in zip(picks, tiles(picks), strict=True)]


def _figures(dpi: int) -> list[tuple[FigureText, str, bool]]:
    """Each figure with its text and whether it is as wide as a page; the page has galleries of its own."""
    from PIL import Image

    found = []
    for path in sorted(new(FIGURES).glob("*.png")):
        if path.stem.startswith("gallery_"):
            continue
        with Image.open(path) as image:
            is_wide = image.width > 1.5 * COLUMN_WIDTH * dpi
        found.append((figure_text(path.stem), inline(path.read_bytes()), is_wide))
    return sorted(found, key=lambda entry: (entry[0].place, entry[0].title))


def _share(value: float | None) -> str:
    """0.95 as 95.0 %; a dash where nothing could be divided."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _setting(value: Any) -> str:
    """As it would stand in params.yaml; without the entries of a list's items that are not given."""
    if isinstance(value, dict):
        given = (f"{key}: {_setting(part)}" for key, part in value.items() if part is not None)
        return f"{{{', '.join(text for text in given if not text.endswith('{}'))}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _score(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
