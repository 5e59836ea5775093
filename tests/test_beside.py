"""What a network learns beside the loss of a batch: mixed images (RegMixup) and quarter turns (RotPred)."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from extracted import CPU, IMAGES, build, data_of
from numpy.testing import assert_allclose
from scipy.special import log_softmax
from torch import Tensor, nn

from osr.data.batches import TensorImages
from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import Msp
from osr.detectors.rotpred import RotPred
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.inference.predictor import Predictor
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.extra_class import KPlus1
from osr.models.open_set_model import OpenSetModel
from osr.models.rotations import rotation_losses, turned
from osr.params import load_params
from osr.training import keeping
from osr.training.loop import train
from osr.training.settings import TrainSettings
from osr.training.steps import Beside, Step

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train
STILL = {"shift_pixels": 0, "rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}
PIXELS = torch.from_numpy(IMAGES.transpose(0, 3, 1, 2))
LABELS = torch.arange(len(IMAGES)) % 3


def settings(augmentation: dict[str, object] | None = None, **changes: object) -> TrainSettings:
    chosen = TRAIN.augmentation.model_copy(update=STILL | (augmentation or {}))
    small = {"epochs": 3, "batch_size": 16, "warmup_epochs": 1, "accelerator": "cpu", "augmentation": chosen}
    return TRAIN.model_copy(update=small | changes)


class Double(nn.Module):
    """Logits of four pixels, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3).double()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(images.flatten(1).double()), images.flatten(1).double()


def test_regmixup_is_the_loss_and_eta_times_that_of_the_mixed_images() -> None:
    """Pinto et al. 2022, equation 2, by hand."""
    mixing = {"mixup_alpha": 10.0, "mix_beside": 0.7}
    data = TensorImages(torch.randint(0, 256, (40, 1, 2, 2), dtype=torch.uint8), torch.arange(40) % 3)
    plain = list(data.epoch_batches(settings(), epoch=0))
    assert settings(mixing).copies == 2
    network = Double()
    step = Step(network, CrossEntropy(label_smoothing=0.0), Beside(2, mixed_weight=0.7)).train()
    for number, (images, shares) in enumerate(data.epoch_batches(settings(mixing), epoch=0)):
        if number == 0:  # later batches of the plain epoch have other draws
            assert torch.equal(images[: len(images) // 2], plain[0][0])
            assert torch.equal(shares[: len(images) // 2].argmax(1), plain[0][1])
        half = len(images) // 2
        value, logits = step(images, shares)
        weight, bias = network.layer.weight.detach().numpy(), network.layer.bias.detach().numpy()
        own = log_softmax(images.flatten(1).double().numpy() @ weight.T + bias, axis=1)
        each = -(shares.double().numpy() * own).sum(axis=1)
        assert value.item() == pytest.approx(each[:half].mean() + 0.7 * each[half:].mean(), rel=1e-7)
        assert logits.shape == (half, 3)
        assert 0 < float(shares[half:].amax(1).min()) < 1
    judged = CrossEntropy(label_smoothing=0.0)(*network(plain[0][0]), plain[0][1])
    assert torch.equal(step.eval()(*plain[0])[0], judged)


def test_turns_are_those_of_numpy_and_their_losses_by_hand() -> None:
    images = torch.arange(2 * 3 * 5 * 5.0).view(2, 3, 5, 5)
    for turns, part in enumerate(turned(images).split(2), start=1):
        assert_allclose(part.numpy(), np.rot90(images.numpy(), turns, axes=(2, 3)))
    logits = torch.randn(8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logs = log_softmax(logits.numpy(), axis=1).reshape(4, 2, 4)
    expected = [-np.mean([logs[turn, image, turn] for turn in range(4)]) for image in range(2)]
    assert_allclose(rotation_losses(logits).numpy(), expected, rtol=1e-12)


def test_rotpred_adds_the_turns_of_the_own_images_and_its_gradient_reaches_every_parameter() -> None:
    model = build(neck="identity", rotations=True).double().train()
    model.preprocess.double()
    beside = Beside(copies=2, rotation_weight=0.5)
    loss = KPlus1(num_extra=1, label_smoothing=0.0)
    model.head = build(neck="identity", extra=1).head.double()
    images = torch.cat([PIXELS[:6], PIXELS[6:12]])
    labels = torch.cat([LABELS[:6], torch.full((6,), -2)])
    torch.manual_seed(7)  # of dropout
    value, logits = Step(model, loss, beside).train()(images, labels)
    assert logits.shape == (6, 4)
    pixels = model.preprocess(images)
    torch.manual_seed(7)
    vectors = model.embed(torch.cat([pixels, turned(pixels[:6])]))
    plain = loss(*model.judge(vectors[:12]), labels)
    own = model.rotation(torch.cat([vectors[:6], vectors[12:]])).detach().numpy()
    logs = log_softmax(own, axis=1)[np.arange(24), np.repeat(np.arange(4), 6)]
    assert value.item() == pytest.approx(plain.item() - 0.5 * logs.mean(), rel=1e-6)
    value.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_score_is_that_of_the_paper_and_needs_the_second_head() -> None:
    model, detector, rows = build(rotations=True), RotPred(), np.arange(len(IMAGES))
    data = data_of(IMAGES, rows, rows % 3)
    made = partial(extract, model, data, index=rows, device=CPU, title="test", batch_size=7)
    outputs = made(again=[detector])
    expected = []
    for image in IMAGES:
        turns = [np.ascontiguousarray(np.rot90(image, turn))[None] for turn in range(4)]
        with torch.no_grad():
            pixels = [model.preprocess(torch.from_numpy(turn.transpose(0, 3, 1, 2))) for turn in turns]
            found = [model.rotation(model.embed(each)).double().numpy()[0] for each in pixels]
        expected.append(-np.mean([log_softmax(logits)[turn] for turn, logits in enumerate(found)]))
    assert_allclose(outputs.rotation[:, 0], expected, rtol=1e-4)
    sure = -log_softmax(outputs.logits.astype(float), axis=1).mean(axis=1)
    assert_allclose(detector.score(outputs), outputs.rotation[:, 0] - sure, rtol=1e-9)
    with pytest.raises(InputError, match=r"rotpred needs the network again.*extraction.rotations to true"):
        detector.score(made())
    with pytest.raises(InputError, match=r"no second head.*model.rotation_head"):
        extract(build(), data, index=rows, device=CPU, title="t", batch_size=7, again=[detector])
    identity = SimpleNamespace(apply=lambda logits: logits)
    for judge in (detector, Ensemble(members=(Msp(), detector)).fit(outputs)):
        predictor = Predictor(model, judge, threshold=0.0, calibration=identity, batch_size=7)
        assert_allclose(predictor.predict(IMAGES).scores, judge.score(outputs), rtol=1e-4, atol=1e-6)


def test_its_file_rebuilds_a_network_with_a_second_head(tmp_path: Path) -> None:
    model = build(rotations=True).eval()
    model.save(tmp_path / "model.safetensors")
    again = OpenSetModel.load(tmp_path / "model.safetensors")
    vectors = again.embed(again.preprocess(PIXELS))
    assert torch.equal(again.turns(vectors), model.turns(vectors))


class KilledError(Exception):
    """What the test throws into a training."""


def test_a_training_with_all_of_them_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SHORTEST_S", 0.0)
    mixing = {"mixup_alpha": 10.0, "mix_beside": 1.0, "pixmix": True, "pixmix_fractals": 8}

    def run(name: str, on_epoch: object = lambda _row, _rate: None) -> dict[str, Tensor]:
        model = build(neck="t2fnorm", bias=False, rotations=True)
        train(
            model,
            CrossEntropy(label_smoothing=0.0),
            train_data=TensorImages(PIXELS, LABELS),
            val_data=TensorImages(PIXELS, LABELS),
            settings=settings(mixing, epochs=2),
            checkpoint=tmp_path / name,
            on_epoch=on_epoch,
            rotation_weight=0.5,
        )
        return model.state_dict()

    def kill(_row: dict[str, float], _rate: float) -> None:
        raise KilledError

    whole = run("whole.pt")
    with pytest.raises(KilledError):
        run("killed.pt", kill)
    resumed, untrained = run("killed.pt"), build(neck="t2fnorm", bias=False, rotations=True)
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    assert not torch.equal(whole["rotation.weight"], untrained.rotation.weight)
