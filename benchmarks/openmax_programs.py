"""How far the OpenMax presets are from the programs that they name, on the logits of tests/libmr_openmax.npz.

Run: python -m benchmarks.openmax_programs

Prints the table of docs/parity.md: the largest difference of a probability of unknown, of the preset with
each `translation`. The numbers of OSDN and OpenOOD are stored and were made with the real libmr
(benchmarks/libmr_openmax.py); pytorch-ood's are made here, with requirements-dev.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peer_pytorch_ood import PEERS
from osr.detectors.openmax import OpenMax
from osr.detectors.settings import DetectorsSettings, OpenMaxSettings
from osr.outputs import Outputs
from osr.params import load_params
from osr.settings.reading import read_yaml

ROOT = Path(__file__).parents[1]
STORED = ROOT / "tests" / "libmr_openmax.npz"
TRANSLATIONS = ("none", "libmr", "osdn")


def activations() -> tuple[Outputs, Outputs]:
    """Training and test outputs of the stored logits."""
    with np.load(STORED) as stored:
        return tuple(
            Outputs(
                logits := stored[f"{part}_logits"],
                logits,
                stored["train_labels"] if part == "train" else logits.argmax(1),
                np.arange(len(logits)),
                np.eye(logits.shape[1], dtype=np.float32),
                np.zeros(logits.shape[1], np.float32),
            )
            for part in ("train", "test")
        )


def preset(name: str) -> DetectorsSettings:
    """The detectors' settings of params.yaml, and over them those of presets/openmax_NAME.yaml."""
    settings = load_params(ROOT / "params.yaml").detectors
    changes = read_yaml(ROOT / "presets" / f"openmax_{name}.yaml")["detectors"]["openmax"]
    openmax = OpenMaxSettings.model_validate(settings.openmax.model_dump() | changes)
    return settings.model_copy(update={"openmax": openmax})


def programs(train: Outputs, test: Outputs) -> Iterator[tuple[str, str, NDArray[np.floating]]]:
    """The preset, the program, and the program's (N,) probabilities of unknown."""
    with np.load(STORED) as stored:
        yield "bendale_code", "OSDN", stored["probabilities_bendale_code"][:, -1]
        yield "openood", "OpenOOD v1.5", stored["probabilities_openood"][:, -1]
    yield "pytorch_ood", "pytorch-ood", PEERS["openmax"](train, preset("pytorch_ood"))(test)


def main() -> None:
    """Print the table."""
    train, test = activations()
    print(f"| preset | program | its `translation` | {' | '.join(TRANSLATIONS)} |")
    print("|---|---|---|" + "---|" * len(TRANSLATIONS))
    for name, program, theirs in programs(train, test):
        settings = preset(name).openmax.model_dump()
        cells = [
            f"{np.abs(OpenMax(**settings | {'translation': key}).fit(train).score(test) - theirs).max():.1e}"
            for key in TRANSLATIONS
        ]
        print(f"| `openmax_{name}` | {program} | {settings['translation']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
