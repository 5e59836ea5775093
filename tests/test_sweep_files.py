"""Files of sweeps that say something twice, nothing, or by another name: one sentence each."""

import pytest
from test_sweep import project  # noqa: F401 (fixture)

from osr.errors import InputError
from pipeline.experiments.sweep_file import FOLDER, load_sweep

GRID = "grid: {train.seed: [0, 1]}"


def told(text: str) -> str:
    (FOLDER / "bad.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        load_sweep("bad")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"setings: {{train.loss: ce}}\n{GRID}", "unknown key 'setings'; did you mean 'settings'?"),
        ("gird: {train.seed: [0]}", "unknown key 'gird'; did you mean 'grid'?"),
        (f"{GRID}\nVariants: [{{}}]", "unknown key 'Variants'; did you mean 'variants'?"),
        (f"{GRID}\n7: x", "sweeps/bad.yaml must hold a grid, and may hold presets, settings, variants; noth"),
        ("grid: {train.loss: []}", "grid.train.loss is [], but must be a list of one value or more: it must"),
        (
            "grid: {split.trial: [0, 0]}",
            "grid.split.trial is [0, 0], but must be a list that holds each valu",
        ),
        ("grid: {detectors.enabled: [[msp], [mav], [msp]]}", "but must be a list that holds each value once"),
        ("grid: {train.lr: [1, 1.0]}", "grid.train.lr is [1, 1.0], but must be a list that holds each value"),
        (
            f"settings: {{train.seed: 3}}\n{GRID}",
            "sweeps/bad.yaml: train.seed stands in settings and in grid, but must stand in one of them.",
        ),
        (f"settings: {{train: {{seed: 3}}}}\n{GRID}", "train.seed stands in settings and in grid"),
        (
            f"variants: [{{train.loss: ce}}, {{train.loss: arpl, train.seed: 3}}]\n{GRID}",
            "train.seed stands in a variant and in grid",
        ),
        (
            f"variants: {{a: {{train.loss: ce}}, b: {{train: {{loss: ce}}}}}}\n{GRID}",
            "two variants are {'train.loss': 'ce'}, but each must be another one.",
        ),
    ],
)
def test_a_sentence_names_the_key_and_the_rule(text: str, sentence: str) -> None:
    assert sentence in told(text)


def test_a_variant_may_say_otherwise_what_settings_say() -> None:
    (FOLDER / "good.yaml").write_text(
        f"settings: {{train.lr: 0.1}}\nvariants: [{{}}, {{train.lr: 0.2}}]\n{GRID}"
    )
    assert [one["train"]["lr"] for one in load_sweep("good").experiments()] == [0.1, 0.1, 0.2, 0.2]
