"""Settings that earlier versions had: the value that holds now, and what stands in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from osr.errors import InputError


@dataclass(frozen=True)
class Gone:
    """A setting that was taken out.

    Args:
        value: what it was in the last params.yaml that had it: results made with this are like today's.
        instead: the setting that says it now; empty where the value is fixed.
        since: the first version of osr without it.
    """

    value: float
    instead: str = ""
    since: str = "0.2.0"

    @property
    def told(self) -> str:
        """The rest of a sentence that begins with the key."""
        now = f"{self.instead} takes its place" if self.instead else f"it is always {self.value:g} now"
        return f"is gone since osr {self.since}: {now}"


def is_as_ever(key: str, params: Mapping[str, str]) -> bool:
    """Whether a param of a run is a setting that is gone, and says what the others of the run say today.

    Args:
        key: dotted, one of the params.
        params: of the run, as MLflow keeps them.
    """
    gone = GONE.get(key)
    return gone is not None and params[key] == params.get(gone.instead, str(gone.value))


def without_gone(settings: Mapping[str, Any], *, section: str) -> dict[str, Any]:
    """The settings of a stored file of an earlier version, without those that are gone.

    Args:
        settings: of one section, by the last part of their keys.
        section: dotted.

    Raises:
        InputError: one that is gone had another value than the one that holds now.
    """
    kept = dict(settings)
    for name, value in settings.items():
        key = f"{section}.{name}"
        if key in GONE:
            if value != GONE[key].value:
                raise InputError(f"{key} was {value}, and {GONE[key].told}")
            del kept[name]
    return kept


GONE: dict[str, Gone] = {
    "train.probe.tolerance": Gone(1e-4),
    "train.probe.max_iterations": Gone(1000),
    "losses.arpl.temperature": Gone(1.0, "model.head.temperature"),
    "losses.combined.rho": Gone(2.0, "losses.penalty.rho"),
    "losses.combined.tau": Gone(0.5, "losses.threshold.tau"),
    "losses.supcon.projection_width": Gone(128),
    "calibrate.seed": Gone(0),
    "calibrate.min_temperature": Gone(0.01),
    "calibrate.max_temperature": Gone(100.0),
    "calibrate.ece_bins": Gone(15),
    "detectors.nnguide.seed": Gone(0),
    "detectors.relation.threshold": Gone(0.03),
    "evaluate.shifts.seed": Gone(0, "evaluate.seed"),
    "plot.tsne_seed": Gone(0, "evaluate.seed"),
}
