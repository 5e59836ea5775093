"""Stage train refuses, before it trains, what a later stage could not do with these training images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from osr.errors import InputError
from osr.params import Params, load_params
from osr.splits.split import Split
from osr.training import loop
from osr.training.probe import best_of, fit_probes
from pipeline import train
from pipeline.prepare_split import prepare_split
from pipeline.workspace.stages import FEATURES, SPLIT
from pipeline.workspace.swap import new

ROOT = Path(__file__).parents[1]


class StartedError(Exception):
    """Training begins."""


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """Settings of 30 cats, 24 dogs and 30 unknown frogs, whose split is made; training only starts."""
    (tmp_path / "data").mkdir()
    names = np.repeat(["cat", "dog", "frog"], [30, 24, 30])
    images = np.random.default_rng(0).integers(0, 256, (len(names), 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "data" / "images.npz", images=images, labels=names)
    monkeypatch.chdir(tmp_path)

    def start(*_: object, **__: object) -> None:
        raise StartedError

    monkeypatch.setattr(train, "train", start)
    content = load_params(ROOT / "params.yaml").model_dump()
    content["dataset"]["name"] = "arrays"
    content["split"] |= {"protocol": "explicit", "known": ["cat", "dog"], "unknown": ["frog"]}
    params = Params.model_validate(content)
    prepare_split(with_detectors(params, 14), None)
    return params


def with_detectors(params: Params, tail_size: int, **changes: object) -> Params:
    content = params.model_dump()
    content["detectors"] |= changes
    content["detectors"]["openmax"]["tail_size"] = tail_size
    return Params.model_validate(content)


def test_a_tail_larger_than_a_class_is_refused_before_training(begun: Params) -> None:
    with pytest.raises(InputError) as error:
        train.fit(with_detectors(begun, 15), lambda *_: None)
    assert str(error.value) == (
        "detectors.openmax.tail_size is 15, but must be at most 14, the training images of class 'dog', "
        "which has the fewest; lower it, or leave openmax out of the detectors."
    )
    with pytest.raises(StartedError):
        train.fit(with_detectors(begun, 14), lambda *_: None)


def test_only_where_openmax_is_used(begun: Params) -> None:
    unused = {"enabled": ["msp", "maxlogit"]}
    with pytest.raises(StartedError):
        train.fit(with_detectors(begun, 500, **unused), lambda *_: None)
    member = {"enabled": ["maxlogit", "ensemble"], "ensemble": {"members": ["openmax", "msp"]}}
    with pytest.raises(InputError, match=r"detectors\.openmax\.tail_size is 500"):
        train.fit(with_detectors(begun, 500, **member), lambda *_: None)


def test_supcon_learns_features_first_and_a_head_on_them_then(
    begun: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "train", loop.train)
    content = with_detectors(begun, 14).model_dump()
    content["train"] |= {"loss": "supcon", "epochs": 2, "warmup_epochs": 1}
    params, rows = Params.model_validate(content), []
    model, progress, checkpoint = train.fit(params, lambda row, _rate: rows.append(row))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert progress.best_epoch == len(progress.history) == 3
    split, folders = Split.load(SPLIT), [new(FEATURES / part) for part in ("train", "val")]
    parts = [
        (np.load(folder / "features.npy"), split.labels[np.load(folder / "index.npy")]) for folder in folders
    ]
    fits = fit_probes(*parts, num_classes=2, bias=False, settings=params.train.probe)
    best = fits[best_of(fits)]
    np.testing.assert_allclose(model.head.weight.detach().numpy(), best.weight, rtol=1e-5, atol=1e-7)
    assert rows[2]["val/loss"] == best.row["val/loss"]
    assert checkpoint.is_file()  # killed in the second phase, it begins with that
    again, _, _ = train.fit(params, lambda *_: None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
