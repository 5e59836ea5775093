"""params.yaml: the keys and values it accepts, and one clear sentence for everything else."""

import datetime
import json
import re
from typing import get_args

import pytest
from changed_settings import MISSING, ROOT, SHIPPED, changed, complaint

from osr.data.datasets import DATASETS
from osr.data.settings import DatasetName
from osr.detectors.settings import DetectorName
from osr.errors import InputError
from osr.losses.registry import LOSSES
from osr.losses.settings import LossName
from osr.params import check_params, flatten, load_params
from osr.settings.guesses import OTHER_NAMES

BACKBONE_KEYS = "name, weights, small_image_stem, frozen_stages, classifier, options"
LEAVES = sorted(flatten(SHIPPED))
SECTIONS = sorted({key.rpartition(".")[0] for key in LEAVES} - {""})


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
        ("model.image_size", "Auto", "is 'Auto'; did you mean 'auto'? It must be a whole number or 'auto'."),
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
            f"is 'Digit'; did you mean 'digits'? It must be one of {', '.join(map(repr, DATASETS))} or "
            "module:function of your own code.",
        ),
        (
            "train.loss",
            "cce",
            "is 'cce'; did you mean 'ce'? It must be one of 'ce', 'logitnorm', 'logit_adjusted', "
            "'one_vs_rest', 'center', 'arpl', 'entropic', 'objectosphere', 'outlier_exposure', "
            "'energy_reg', 'kplus1', 'proser', 'penalty', 'threshold', 'combined', 'supcon' or "
            "module:Class of your own code.",
        ),
        (
            "train.optimizer",
            "adamm",
            "is 'adamm'; did you mean 'adam'? It must be one of 'adamw', 'adam', 'sgd', 'nadamw', 'lion', "
            "'lamb'.",
        ),
        ("detectors.ash.variant", "s", "is 's'; did you mean 'S'? It must be one of 'S', 'B', 'P'."),
    ],
)
def test_a_bad_value_is_told_the_rule(key: str, value: object, end: str) -> None:
    assert complaint({key: value}) == f"{key}{'' if end.startswith('[') else ' '}{end}"


def test_an_unknown_detector_is_told_the_names() -> None:
    text = complaint({"detectors.enabled": ["msp", "mahalanobs"]})
    start = "detectors.enabled[1] is 'mahalanobs'; did you mean 'mahalanobis'? It must be one of 'msp', "
    assert text.startswith(start)
    assert text.endswith("'ensemble' or module:Class of your own code.")


@pytest.mark.parametrize(
    ("key", "word", "meant"),
    [
        ("train.loss", "crossentropy", "ce"),
        ("train.loss", "Cross-Entropy", "ce"),
        ("train.loss", "OE", "outlier_exposure"),
        ("detectors.enabled", ["max_softmax"], "msp"),
        ("detectors.enabled", ["MLS"], "maxlogit"),
        ("detectors.enabled", ["mds"], "mahalanobis"),
    ],
)
def test_a_method_by_another_of_its_names_is_told_ours(key: str, word: object, meant: str) -> None:
    assert complaint({key: word}).partition(" It must be")[0].endswith(f"; did you mean {meant!r}?")


def test_other_names_are_of_methods_there_are() -> None:
    assert OTHER_NAMES.keys() <= {*get_args(LossName), *get_args(DetectorName)}


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
