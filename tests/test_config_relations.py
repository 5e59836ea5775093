"""params.yaml: settings that contradict each other, each told the keys and values."""

import pytest
from changed_settings import SHIPPED, changed, complaint

from osr.data.datasets import DATASETS
from osr.data.settings import FLIP_SAFE
from osr.params import check_params


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"train.warmup_epochs": 5, "train.epochs": 5},
            "train.warmup_epochs is 5, but must be below train.epochs, 5.",
        ),
        (
            {"split.val_fraction": 0.5, "split.test_fraction": 0.5},
            "split.val_fraction is 0.5 and split.test_fraction is 0.5, but their sum must be below 1, so "
            "that images are left to train on.",
        ),
        (
            {"split.known": ["1", 2]},
            "split.known is ['1', 2], but must be [] while split.protocol is 'A'; explicit takes your lists.",
        ),
        (
            {"split.known": [1], "split.unknown": [2]},
            "split.known is [1] and split.unknown is [2], but must be [] while split.protocol is 'A'; "
            "explicit takes your lists.",
        ),
        (
            {"split.protocol": "explicit", "split.known": [1], "split.unknown": [2]},
            "split.known is [1], but must hold at least 2 of the classes, or none, which means all others, "
            "when split.protocol is 'explicit'.",
        ),
        (
            {"evaluate.prevalence": 1.5},
            "evaluate.prevalence is 1.5, but must be 'test' or at most 1.",
        ),
        (
            dict.fromkeys((f"evaluate.costs.{name}" for name in SHIPPED["evaluate"]["costs"]), 0.0),
            "evaluate.costs are all 0, but one of them at least must be above 0.",
        ),
        (
            {"evaluate.shifts.corruptions": ["blur", "noise", "blur"], "evaluate.shifts.severities": [1]},
            "evaluate.shifts.corruptions is ['blur', 'noise', 'blur'], but must hold each once.",
        ),
        (
            {"evaluate.shifts.corruptions": ["blur"], "evaluate.shifts.severities": []},
            "evaluate.shifts.severities is [], but must hold one of 1 to 5 at least.",
        ),
        (
            {"evaluate.estimate_folds": 1},
            "evaluate.estimate_folds is 1, but must be 0 (no estimate) or at least 2.",
        ),
        (
            {"split.protocol": "random", "split.num_known": 1},
            "split.num_known is 1, but must be at least 2 when split.protocol is 'random'.",
        ),
        (
            {"split.num_known": 3},
            "split.num_known is 3 and split.num_unknown is all, but must be 0 and all while split.protocol "
            "is 'A'; first_k and random take numbers.",
        ),
        (
            {"dataset.arrays.test_images": "x_test"},
            "dataset.arrays.test_images is 'x_test' and dataset.arrays.test_labels is 'none', but must both "
            "name an array or both be 'none'.",
        ),
        (
            {"detectors.enabled": ["msp", "mav", "msp"], "plot.detector": "msp"},
            "detectors.enabled is ['msp', 'mav', 'msp'], but must hold each detector once, "
            "not several times msp.",
        ),
        (
            {"detectors.threshold_rule": "background", "split.background_val_fraction": 0.2},
            "detectors.threshold_rule is 'background', but must be acceptance or conformal unless "
            "split.background names classes and split.background_val_fraction is above 0.",
        ),
        (
            {"detectors.enabled": ["maxlogit", "odin"]},
            "detectors.enabled holds 'odin', but must not while extraction.odin is false: it needs the "
            "network again.",
        ),
        (
            {"detectors.enabled": ["maxlogit", "rotpred"]},
            "detectors.enabled holds 'rotpred', but must not while extraction.rotations is false: it needs "
            "the network again.",
        ),
        (
            {"extraction.rotations": True},
            "extraction.rotations is true, but must be false while model.rotation_head is false: there is no "
            "head that tells the turns apart.",
        ),
        (
            {
                "train.regime": "probe",
                "model.backbone.weights": "pretrained",
                "model.backbone.name": "resnet18",
                "model.rotation_head": True,
            },
            "model.rotation_head is true, but must be false when train.regime is 'probe', which trains no "
            "second head; take tune or tune_last.",
        ),
        (
            {"model.neck.name": "t2fnorm", "model.head.name": "cosine"},
            "model.head.name is 'cosine', but must be 'linear' or 'weight_norm' when model.neck.name is "
            "'t2fnorm': cosine never sees the length of the features, and reciprocal learns from it, which "
            "that neck hides in training.",
        ),
        (
            {"model.neck.name": "t2fnorm", "train.loss": "objectosphere"},
            "model.neck.name is 't2fnorm', but must be another when train.loss is 'objectosphere', which "
            "learns from the length of the features: that neck makes all of one length.",
        ),
        (
            {"train.augmentation.mix_beside": 1.0},
            "train.augmentation.mix_beside is 1, but must be 0 unless mixup_alpha or cutmix_alpha is above "
            "0: there are no mixed images to weigh.",
        ),
        (
            {"train.augmentation.mixup_alpha": 1.0, "train.augmentation.pseudo_unknowns": "pixmix"},
            "train.augmentation.pseudo_unknowns is 'pixmix', but must be 'none' when mixup_alpha or "
            "cutmix_alpha is above 0: what stands for unknowns has no class to mix.",
        ),
        (
            {"train.augmentation.pseudo_unknowns": "pixmix"},
            "train.augmentation.pseudo_unknowns is 'pixmix', but must be 'none' when train.loss is 'ce', "
            "which learns from known images alone; entropic, objectosphere, outlier_exposure, energy_reg, "
            "kplus1, penalty, threshold, combined learn from such pictures, too.",
        ),
        (
            {"train.loss": "supcon", "model.head.name": "cosine"},
            "model.head.name is 'cosine', but must be 'linear' when train.loss is 'supcon', whose second "
            "phase is a logistic regression.",
        ),
        (
            {"train.loss": "supcon", "train.devices": 2},
            "train.devices is 2 and train.num_nodes is 1, but must be 1 when train.loss is 'supcon', which "
            "compares all images of a batch with each other.",
        ),
        (
            {"model.rotation_head": True, "train.strategy": "fsdp"},
            "model.rotation_head is true, but must be false when train.strategy is 'fsdp', which shares out "
            "what one head reads.",
        ),
        (
            {"detectors.ensemble.members": ["msp"]},
            "detectors.ensemble.members is ['msp'], but must hold at least two detectors, and not the "
            "ensemble itself.",
        ),
        (
            {"detectors.enabled": ["maxlogit", "ensemble"], "detectors.ensemble.members": ["kplus1", "msp"]},
            "detectors.enabled holds 'kplus1', but must not while model.head.extra_classes is 0: it reads "
            "the extra class that train.loss kplus1, proser, penalty, threshold, combined learn.",
        ),
        (
            {"model.head.name": "cosine", "model.head.bias": True},
            "model.head.bias is true, but must be false when model.head.name is 'cosine', whose "
            "logits have no free bias.",
        ),
        (
            {"train.schedule": "one_cycle", "train.warmup_epochs": 0},
            "train.warmup_epochs is 0, but must be at least 1 when train.schedule is 'one_cycle', which "
            "rises over these epochs.",
        ),
        (
            {"train.strategy": "fsdp", "train.precision": "16-mixed"},
            "train.precision is '16-mixed', but must be 32-true or bf16-mixed when train.strategy is 'fsdp': "
            "Fabric scales no loss there.",
        ),
        (
            {"train.strategy": "fsdp", "train.channels_last": True},
            "train.channels_last is true, but must be false when train.strategy is 'fsdp': weights are "
            "shared out in their usual layout.",
        ),
        (
            {"train.strategy": "fsdp", "train.optimizer": "lamb"},
            "train.optimizer is 'lamb', but must be another one when train.strategy is 'fsdp': it needs the "
            "norm of each whole weight.",
        ),
        (
            {"model.backbone.frozen_stages": "all"},
            "model.backbone.frozen_stages is 'all', but must be 'auto' unless train.regime is 'tune_last'; "
            "it is 'tune'.",
        ),
        (
            {"train.regime": "probe"},
            "train.regime is 'probe', but must be 'tune' while model.backbone.weights is 'none': what starts "
            "at random has to learn.",
        ),
        (
            {"train.regime": "probe", "model.backbone.weights": "pretrained", "model.neck.name": "tanh"},
            "model.neck.name is 'tanh' and model.head.name is 'linear', but must be 'identity' and 'linear' "
            "when train.regime is 'probe', which is a logistic regression; for others take tune_last with "
            "model.backbone.frozen_stages: all.",
        ),
        (
            {"train.regime": "probe", "train.loss": "logitnorm"},
            "train.loss is 'logitnorm' and train.label_smoothing is 0, but must be 'ce' and 0 when "
            "train.regime is 'probe', which is a logistic regression; for another loss take tune_last with "
            "model.backbone.frozen_stages: all.",
        ),
        (
            {"train.regime": "probe", "train.devices": 2},
            "train.devices is 2 and train.num_nodes is 1, but must be 1 when train.regime is 'probe': one "
            "device fits the head.",
        ),
        (
            {"train.loss": "kplus1"},
            "model.head.extra_classes is 0, but must be at least 1 when train.loss is 'kplus1'; kplus1, "
            "proser, penalty, threshold, combined learn extra classes.",
        ),
        (
            {"model.head.extra_classes": 2},
            "model.head.extra_classes is 2, but must be 0 when train.loss is 'ce'; kplus1, proser, penalty, "
            "threshold, combined learn extra classes.",
        ),
        (
            {"train.loss": "arpl"},
            "model.head.name is 'linear', but must be 'reciprocal' when train.loss is 'arpl'.",
        ),
        (
            {"losses.energy_reg.known_energy": -4.0},
            "losses.energy_reg.known_energy is -4.0, but must be below losses.energy_reg.background_energy, "
            "-5.0.",
        ),
        (
            {"plot.detector": "knn"},
            "plot.detector is 'knn', but must be auto or one of detectors.enabled: msp, maxlogit, energy, "
            "mav, openmax.",
        ),
    ],
)
def test_a_broken_relation_names_keys_and_values(changes: dict, sentence: str) -> None:
    assert complaint(changes) == sentence


def test_flips_are_refused_where_they_change_the_class() -> None:
    flip, own = {"train.augmentation.flip": True}, {"dataset.name": "arrays"}
    for name in ("digits", "mnist", "kmnist", "emnist_letters", "svhn", "gtsrb"):
        for safe in ("auto", True):
            text = complaint({**flip, "dataset.name": name, "dataset.flip_safe": safe})
            assert f"train.augmentation.flip is true, but must be false for {name}" in text
    assert "must be false unless dataset.flip_safe is true" in complaint({**flip, **own})
    assert "must be false for gtsrb" in complaint(
        {**flip, **own, "dataset.flip_safe": True, "split.lists_of": "gtsrb"}
    )
    for allowed in ({"dataset.name": "cifar10"}, {**own, "dataset.flip_safe": True}):
        check_params(changed({**flip, **allowed}), source="params.yaml")
    assert set(FLIP_SAFE) == set(DATASETS) - {"arrays", "folder", "csv"}


@pytest.mark.parametrize("key", ["mixup_alpha", "cutmix_alpha"])
def test_mixed_labels_need_a_loss_that_takes_them(key: str) -> None:
    mixed = {f"train.augmentation.{key}": 0.2}
    check_params(changed({**mixed, "train.loss": "ce"}), source="params.yaml")
    assert (
        "train.loss is 'center', but must be one of ce, logitnorm, logit_adjusted, one_vs_rest"
        in complaint({**mixed, "train.loss": "center"})
    )
