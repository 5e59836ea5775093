"""params.yaml: what it accepts, and one clear sentence for everything else."""

import datetime
import json
import os
import re
import time
from pathlib import Path
from typing import get_args

import pytest
from ruamel.yaml import YAML

from osr.data.datasets import DATASETS
from osr.data.settings import FLIP_SAFE, DatasetName
from osr.errors import InputError
from osr.losses.registry import LOSSES
from osr.losses.settings import LossName
from osr.params import Params, check_params, flatten, load_params
from osr.settings import reading

ROOT = Path(__file__).parents[1]
SHIPPED = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
MISSING = object()
BACKBONE_KEYS = "name, weights, small_image_stem, frozen_stages, classifier, options"
LEAVES = sorted(flatten(SHIPPED))
SECTIONS = sorted({key.rpartition(".")[0] for key in LEAVES} - {""})


def changed(changes: dict) -> dict:
    """The shipped settings with some keys replaced, added or, for MISSING, removed."""
    content = dict(SHIPPED)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section[name] = dict(section[name])
            section = section[name]
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return content


def complaint(changes: dict) -> str:
    """The error of the shipped settings with `changes`, which must be one sentence."""
    with pytest.raises(InputError) as error:
        check_params(changed(changes), source="params.yaml")
    text = str(error.value)
    assert "\n" not in text
    assert re.search(r"[^.?][.?]$", text)
    assert text.startswith("params.yaml: ")
    return text.removeprefix("params.yaml: ")


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def test_the_shipped_file_loads_and_nothing_is_lost() -> None:
    params = load_params(ROOT / "params.yaml")
    assert flatten(params) == flatten(SHIPPED)
    assert params.train.lr == 0.003
    assert params.detectors.enabled == ("msp", "maxlogit", "energy", "mav", "openmax")


def test_flat_keys_are_those_of_the_command_line() -> None:
    flat = flatten(load_params(ROOT / "params.yaml"))
    assert flat["detectors.openmax.tail_size"] == 20
    assert flat["split.known"] == []
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_choices_are_the_registries() -> None:
    assert set(get_args(DatasetName)) == set(DATASETS)
    assert set(get_args(LossName)) == set(LOSSES)


def test_settings_cannot_be_changed_afterwards() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.train.lr = 1.0


@pytest.mark.parametrize(
    ("key", "end"),
    [
        ("modle", "did you mean 'model'?"),
        ("train.Epoch", "did you mean 'train.epochs'?"),
        ("detectors.openmax.tail", "did you mean 'detectors.openmax.tail_size'?"),
        ("model.head.zzz", "known keys here: name, bias, scale, temperature, extra_classes."),
        # These begin like the names that pydantic gives to the branches of a union.
        ("model.backbone.strategy", f"known keys here: {BACKBONE_KEYS}."),
        ("model.backbone.integers", f"known keys here: {BACKBONE_KEYS}."),
    ],
)
def test_an_unknown_key_is_told_a_known_one(key: str, end: str) -> None:
    assert complaint({key: 1}) == f"unknown key {key!r}; {end}"


@pytest.mark.parametrize("key", LEAVES + SECTIONS)
def test_no_key_may_be_missing(key: str) -> None:
    assert complaint({key: MISSING}) == f"the key {key!r} is missing; every setting must be given."


@pytest.mark.parametrize(
    ("key", "value", "end"),
    [
        ("model.backbone.options", 3, "is 3, but must be a section of settings."),
        ("train.epochs", 0, "is 0, but must be at least 1."),
        ("train.epochs", 1.5, "is 1.5, but must be a whole number."),
        ("train.epochs", True, "is true, but must be a whole number."),
        ("train.epochs", "10", "is '10', but must be a whole number."),
        ("train.epochs", None, "is empty, but must be a whole number."),
        ("train.lr", True, "is true, but must be a number."),
        ("train.lr", "fast", "is 'fast', but must be a number."),
        ("train.lr", float("nan"), "is nan, but must be a finite number."),
        ("train.lr", float("inf"), "is inf, but must be a finite number."),
        ("train.lr", 0, "is 0, but must be at least 1e-12."),
        ("train.seed", 2**32, "is 4294967296, but must be below 4294967296."),
        ("split.val_fraction", 1, "is 1, but must be below 1."),
        ("plot.dpi", 601, "is 601, but must be at most 600."),
        ("model.head.bias", "no", "is 'no', but must be true or false."),
        ("model.head.bias", 1, "is 1, but must be true or false."),
        ("model.backbone.name", 3, "is 3, but must be text."),
        ("evaluate", 3, "is 3, but must be a section of settings."),
        ("evaluate", [1], "is [1], but must be a section of settings."),
        ("evaluate", None, "is empty, but must be a section of settings."),
        ("model.image_size", "big", "is 'big', but must be a whole number or 'auto'."),
        ("model.image_size", "Auto", "is 'Auto', but must be a whole number or 'auto'; did you mean 'auto'?"),
        ("model.image_size", 3, "is 3, but must be at least 4 or 'auto'."),
        ("model.image_size", True, "is true, but must be a whole number or 'auto'."),
        ("detectors.vim.dimension", 0, "is 0, but must be at least 1 or 'auto'."),
        ("split.known", "abc", "is 'abc', but must be a list."),
        ("split.known", {"a": 1}, "is {'a': 1}, but must be a list."),
        ("split.known", [1, 1.5], "[1] is 1.5, but must be text or a whole number."),
        ("split.known", [True], "[0] is true, but must be text or a whole number."),
        ("detectors.enabled", "msp", "is 'msp', but must be a list."),
        ("detectors.enabled", [], "is [], but must hold at least one detector."),
        (
            "dataset.name",
            "Digit",
            f"is 'Digit', but must be one of {', '.join(map(repr, DATASETS))} or module:function of your own "
            "code; did you mean 'digits'?",
        ),
        (
            "train.loss",
            "cce",
            "is 'cce', but must be one of 'ce', 'logitnorm', 'logit_adjusted', 'one_vs_rest', 'center', "
            "'arpl', 'entropic', 'objectosphere', 'outlier_exposure', 'energy_reg', 'kplus1', 'proser', "
            "'penalty', 'threshold', 'combined', 'supcon' or module:Class of your own code; "
            "did you mean 'ce'?",
        ),
        (
            "train.optimizer",
            "adamm",
            "is 'adamm', but must be one of 'adamw', 'adam', 'sgd', 'nadamw', 'lion', 'lamb'; did you mean "
            "'adam'?",
        ),
        ("detectors.ash.variant", "s", "is 's', but must be one of 'S', 'B', 'P'; did you mean 'S'?"),
    ],
)
def test_a_bad_value_is_told_the_rule(key: str, value: object, end: str) -> None:
    assert complaint({key: value}) == f"{key}{'' if end.startswith('[') else ' '}{end}"


def test_an_unknown_detector_is_told_the_names() -> None:
    text = complaint({"detectors.enabled": ["msp", "mahalanobs"]})
    assert text.startswith("detectors.enabled[1] is 'mahalanobs', but must be one of 'msp', 'maxlogit', ")
    assert text.endswith("'ensemble' or module:Class of your own code; did you mean 'mahalanobis'?")


def test_a_misspelt_key_is_one_mistake() -> None:
    assert complaint({"train.lr": MISSING, "train.lrr": 1e-3}) == (
        "unknown key 'train.lrr'; did you mean 'train.lr'?"
    )


def test_a_key_that_is_a_number_is_unknown() -> None:
    with pytest.raises(InputError, match=r"^params.yaml: unknown key '7'; known keys here: dataset, "):
        check_params({**SHIPPED, 7: 1}, source="params.yaml")


def test_several_mistakes_are_several_sentences() -> None:
    with pytest.raises(InputError) as error:
        check_params(changed({"train.epochs": 0, "zzz": 1, "evaluate.seed": -1}), source="here")
    assert [line.split()[1] for line in str(error.value).splitlines()] == [
        "train.epochs",
        "evaluate.seed",
        "unknown",
    ]


LONG = "long " * 2000
VALUES = (
    *(None, True, False, -1, 0, 2, 10**7, 2**63, -(2**64), 10**400),
    *(0.5, 1.5, -0.0, 5e-324, 1e12, 1e308, -1e308, float("nan"), float("inf")),
    *("zzz", "", LONG, "a\0b", "\ud800", "\N{PILE OF POO}\n", b"\xff", "1e400"),
    *([], ["zzz"], [None], [[]], ["zzz"] * 1000, {"a": 1}, {1: None}, {"a": {"b": {"c": []}}}),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), {"zzz"}, (1, 2)),
)
PYDANTIC = re.compile(r"valid |\binput|instance|tuple|constrained|literal|dictionary", re.IGNORECASE)


@pytest.mark.parametrize("key", LEAVES + SECTIONS)
def test_whatever_stands_at_a_key_is_accepted_or_named(key: str) -> None:
    refused = 0
    for value in VALUES:
        try:
            params = check_params(changed({key: value}), source="params.yaml")
        except InputError as error:
            refused += 1
            sentences = str(error).splitlines()
            of_items = isinstance(value, list | tuple)
            assert len(sentences) == 1 or of_items or (key in SECTIONS and isinstance(value, dict))
            assert len(sentences) <= 21 or key in SECTIONS
            for sentence in sentences:
                assert key in sentence or re.search(r" and \d+ more values must be others, too", sentence)
                assert len(sentence) < 1000
                assert re.search(
                    r" (must|but their sum must|but the first must) | is missing; | unknown key ", sentence
                )
                assert re.search(r"[^.?][.?]$", sentence)
                assert not PYDANTIC.search(sentence)
        else:  # what a stage goes on to do with it
            json.dumps(params.model_dump(mode="json"), allow_nan=False).encode()
            for number in filter(is_number, flatten(params).values()):
                assert abs(number) < 2**63
    assert refused >= 16


def is_number(value: object) -> bool:
    return isinstance(value, int | float)


@pytest.mark.parametrize(
    ("key", "value", "end"),
    [
        ("train.lr", 1e308, "is 1e+308, but must be at most 1000."),
        ("losses.proser.alpha", 5e-324, "is 5e-324, but must be at least 0.001."),
        ("train.epochs", 2**63, "is 9223372036854775808, but must be at most 1000000000."),
        ("train.cpu_threads", 10**7, "is 10000000, but must be at most 1024 or 'auto'."),
        ("train.devices", 10**7, "is 10000000, but must be at most 1024 or 'auto'."),
        ("model.image_size", 10**7, "is 10000000, but must be at most 8192 or 'auto'."),
    ],
)
def test_numbers_that_nothing_can_hold(key: str, value: float, end: str) -> None:
    assert complaint({key: value}) == f"{key} {end}"


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("epochs: 2020-13-45", "is not valid YAML: a value in it cannot be read (month must be in 1..12)."),
        ("epochs: 1" + "0" * 5000, "is not valid YAML: a value in it cannot be read (Exceeds the limit "),
        ('name: "\\ud800"', ": name holds '\\ud800', but must be text without zero bytes and halves of "),
        ("epochs: !!bool 12", "is not valid YAML: a value in it cannot be read ('12')."),
        ("epochs: !!int ''", "is not valid YAML: a value in it cannot be read (string index out of range)."),
        ("name: " + "[" * 100_000, " must be nested less deeply, in at most 50 levels."),
        ("name: " + "{a: " * 3000, " must be nested less deeply, in at most 50 levels."),
        ("name: " + "x" * 4_000_000, " must have at most 4,000,000 characters, not "),
        ("name: " + "[" * 60 + "]" * 60, " must be nested less deeply, in at most 50 levels."),
        ("name: &name [*name]", ": name[0] holds itself, through an alias (`*name`)."),
        (BOMB, " must hold at most 100,000 values, its aliases (`*name`) written out, not "),
    ],
)
def test_files_that_no_program_can_walk_through(tmp_path: Path, text: str, end: str) -> None:
    before = time.process_time()
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert end in str(error.value)
    assert "\n" not in str(error.value)
    assert time.process_time() - before < 20


def test_values_are_counted_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_VALUES", 100)
    with pytest.raises(InputError, match=r"line 100: it must hold at most 100 keys and values\.$"):
        load(tmp_path, "- 1\n" * 101)


def test_a_file_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"params\.yaml cannot be read as text: it is a pipe, a socket or a"):
        load_params(tmp_path / "params.yaml")


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
            {"calibrate.min_temperature": 1.0},
            "calibrate.min_temperature is 1.0 and calibrate.max_temperature is 100.0, but the first must be "
            "below 1 and the second above 1.",
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


@pytest.mark.parametrize(
    "changes",
    [
        {"model.image_size": 4},
        {"detectors.vim.dimension": 1},
        {"split.protocol": "explicit", "split.known": ["3", 4], "split.unknown": ["cat"]},
        {"dataset.name": "my_data.loaders:load"},
        {"dataset.arrays.group": ["y", "track"]},
        {"split.protocol": "first_k", "split.num_known": 2, "split.num_unknown": 1},
        {"split.protocol": "first_k", "split.num_known": 2, "split.num_unknown": 0},
        {"split.protocol": "explicit"},
        {"train.lr": 1},
        {"train.warmup_epochs": 0, "train.epochs": 1, "train.label_smoothing": 0, "train.batch_size": 2},
        {"detectors.enabled": ["maxlogit"]},
        {"model.backbone.name": "mine:Net", "model.backbone.options.width": 3, "train.regime": "probe"},
        {"model.backbone.weights": "w", "train.regime": "tune_last", "model.backbone.frozen_stages": "all"},
        {"model.image.mean": [0.5], "model.image.std": [0.5], "model.image.crop_fraction": "none"},
    ],
)
def test_values_at_the_edge_are_accepted(changes: dict) -> None:
    flat = flatten(check_params(changed(changes), source="params.yaml"))
    assert {key: flat[key] for key in changes} == changes


def test_lists_keep_order_and_types() -> None:
    lists = {"split.protocol": "explicit", "split.known": [3, "1"], "split.unknown": ["2", 0]}
    split = check_params(changed(lists), source="params.yaml").split
    assert split.known == (3, "1")
    assert split.unknown == ("2", 0)


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    params = load(tmp_path, text.replace("lr: 3e-3", "lr: 1e-3").replace("weights: none", "weights: no"))
    assert params.train.lr == 0.001
    assert params.model.backbone.weights == "no"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty: every setting of the experiment stands in it."),
        ("# nothing but a comment\n", "is empty: every setting of the experiment stands in it."),
        ("- 1\n", "must hold sections of settings, not [1]."),
        ("a: 1\nb: 2\na: 3\n", 'is not valid YAML, line 3: found duplicate key "a" with value "3" '),
        ("train:\n  lr: 1\n  lr: 2\n", 'is not valid YAML, line 3: found duplicate key "lr" with value '),
        ("a: [1\nb: 2\n", "is not valid YAML, line 2: expected ',' or ']', but got ':'."),
        ("a: 1\n---\nb: 2\n", "is not valid YAML, line 2: but found another document."),
        (
            "a: !!python/object:os.system x\n",
            "is not valid YAML, line 1: could not determine a constructor for ",
        ),
        ("a: \x00\n", "is not valid YAML: "),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'} {sentence}")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params.yaml is missing: every setting"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"cannot be read as text: .*directory.*\.$"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(InputError, match=r"cannot be read as text: .*utf-8.*\.$"):
        load_params(tmp_path / "params.yaml")


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
