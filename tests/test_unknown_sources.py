"""Several unknown sets: what is tested of them, how they join a split, and the metrics of each."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from osr.data.images import ImageSet, OddImage
from osr.data.unknown_sources import add_sources, load_known_sources, part_to_test, resized
from osr.errors import InputError
from osr.metrics.class_tables import full_name, source_and_name, source_metrics, unknowns_of
from osr.metrics.open_set import HEADLINE
from osr.outputs import Outputs
from osr.params import Params, check_params, load_params
from osr.settings.reading import read_yaml
from osr.splits.split import PARTS, Split
from pipeline.images import open_images, open_known_source
from pipeline.prepare_split import divide, prepare_split
from pipeline.report.split_report import split_report
from pipeline.workspace.stages import IMAGES, KNOWN_SOURCES, SPLIT

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)


def images(count: int, size: int = 6, channels: int = 3) -> np.ndarray:
    return RNG.integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def main_set() -> ImageSet:
    return ImageSet(images(60), np.repeat([0, 1, 2], 20), ("cat", "dog", "elk"))


def params(*sources: dict, **split: object) -> Params:
    changed = load_params(ROOT / "params.yaml").model_dump()
    changed["split"] |= {"protocol": "first_k", "num_known": 2} | split
    changed["dataset"] |= {"name": "arrays", "unknown_sources": sources}
    changed["detectors"]["enabled"] = ["maxlogit"]  # openmax needs more training images
    return Params.model_validate(changed)


def test_only_published_test_images_are_tested() -> None:
    parts = np.array(["train", "test", "train", "test", "val"])
    data = ImageSet(images(5), np.array([0, 2, 1, 2, 0]), ("a", "b", "c"), parts, np.array([4, 5, 6, 5, 4]))
    tested = part_to_test(data)
    assert tested.class_names == ("c",)
    assert tested.targets.tolist() == [0, 0]
    assert tested.groups is not None
    assert tested.groups.tolist() == [5, 5]
    assert (tested.images == data.images[[1, 3]]).all()
    assert len(part_to_test(ImageSet(data.images, data.targets, data.class_names)).targets) == 5


def test_images_take_the_size_and_the_channels_of_the_main_set() -> None:
    grey = images(2, size=6, channels=1)
    assert (resized(grey, (6, 6, 3)) == grey).all()
    colour = images(2)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in colour]
    assert np.abs(resized(colour, (6, 6, 1))[..., 0].astype(int) - expected).max() <= 1
    larger = resized(colour, (12, 9, 3))
    assert larger.shape == (2, 12, 9, 3)
    expected = Image.fromarray(colour[1]).resize((9, 12), Image.Resampling.BILINEAR)
    assert (larger[1] == np.asarray(expected)).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 4), max_size=3), st.booleans(), st.booleans())
def test_sources_are_tested_and_nothing_else_moves(
    seed: int, sizes: list[int], main_has_groups: bool, source_has_groups: bool
) -> None:
    data = main_set()
    if main_has_groups:
        data = ImageSet(data.images, data.targets, data.class_names, None, np.arange(60) // 2)
    sources = {
        f"far{number}": ImageSet(
            images(2 * size),
            np.repeat(np.arange(size), 2),
            tuple(f"c{i}" for i in range(size)),
            groups=np.arange(2 * size) // 2 if source_has_groups else None,
        )
        for number, size in enumerate(sizes)
    }
    alone = divide(data, params(seed=seed))
    split = divide(data, params(seed=seed), sources)
    for part in ("train", "val"):
        assert (split.rows(part) == alone.rows(part)).all()
    added = 2 * sum(sizes)
    assert (split.test == np.r_[alone.test, 60 : 60 + added]).all()
    assert (split.labels[60:] == -1).all()
    assert split.known == alone.known
    assert (split.digest == alone.digest) == (not sizes)
    held_out = {"held_out": 20} if sizes else {}
    assert split.source_counts() == held_out | {f"far{number}": 2 * size for number, size in enumerate(sizes)}
    assert sorted(np.concatenate([split.rows(part) for part in PARTS])) == list(range(60 + added))


def test_a_source_that_copies_a_training_image_is_reported() -> None:
    data = main_set()
    first = int(divide(data, params()).train[0])
    copied = ImageSet(data.images[[first]], np.array([0]), ("copy",))
    split = divide(data, params(), {"near": copied})
    assert split.duplicates == [[first, 60]]
    dropped = divide(data, params(duplicates="drop"), {"near": copied})
    assert first not in dropped.train
    assert 60 in dropped.test


def test_what_is_odd_about_a_source_is_kept() -> None:
    odd = (OddImage("a.png", "palette", False),)
    assert part_to_test(ImageSet(images(2), np.zeros(2, int), ("x",), odd=odd)).odd == odd


def test_a_class_of_a_source_with_the_name_of_a_known_one_is_named() -> None:
    split = divide(main_set(), params(), {"far": ImageSet(images(2), np.array([0, 1]), ("Dog", "elk"))})
    assert split.similar_names == [["dog", "far/Dog"]]


def test_a_class_of_another_set_is_never_known() -> None:
    split = add_sources(divide(main_set(), params()), {"far": ImageSet(images(3), np.zeros(3, int), ("x",))})
    content = {name: getattr(split, name) for name in ("targets", "class_names", "background", *PARTS)}
    with pytest.raises(InputError, match=r"^split: class 'dog' of far must be unknown\.$"):
        Split(
            **content,
            known=split.known,
            unknown=split.unknown,
            sources=("held_out", "far", "held_out", "far"),
        )
    with pytest.raises(InputError, match=r"^split: 4 classes need as many sources\.$"):
        Split(**content, known=split.known, unknown=split.unknown, sources=("held_out",))


def write(folder: Path) -> None:
    folder.mkdir()
    np.savez(folder / "images.npz", images=images(60), labels=np.repeat(["cat", "dog", "elk"], 20))
    np.savez(folder / "far.npz", x=images(8, size=9, channels=1), labels=np.repeat(["elk", "gnu"], 4))


FAR = {"source": "far", "name": "arrays", "arrays": {"file": "far.npz", "images": "x"}}


@pytest.mark.parametrize("num_known", [2, 3])
def test_the_stage_joins_the_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_known: int) -> None:
    write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    metrics = prepare_split(params(FAR, num_known=num_known), None)
    held_out = {"held_out": 20} if num_known == 2 else {}
    assert metrics["unknown_sources"] == held_out | {"far": 8}
    assert np.load(IMAGES).shape == (68, 6, 6, 3)
    split = Split.load(SPLIT)
    assert split.class_names[-2:] == ("far/elk", "far/gnu")
    assert split.sources == ("held_out",) * 3 + ("far",) * 2
    assert "unknown set far: 8 images" in split_report()


def test_known_sources_stand_apart_with_the_labels_of_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    pixels = np.load(tmp_path / "data" / "images.npz")["images"]
    alone = prepare_split(params(), None)
    before = Split.load(SPLIT)
    names = np.array(["dog", "gnu", "cat", "elk"])
    np.savez(tmp_path / "data" / "phone.npz", x=np.r_[pixels[:4], images(4)], labels=np.repeat(names, 2))
    phone = {"source": "phone", "name": "arrays", "arrays": {"file": "phone.npz", "images": "x"}}
    settings = params()
    dataset = settings.model_dump()["dataset"] | {"known_sources": [phone]}
    settings = Params.model_validate(settings.model_dump() | {"dataset": dataset})
    metrics = prepare_split(settings, None)
    trained = int(np.isin([0, 1], before.train).sum())
    assert metrics == alone | {"known_sources": {"phone": {"images": 4, "trained_on": trained}}}
    assert Split.load(SPLIT).digest == before.digest
    assert before.known_names == ("cat", "dog")
    source = open_known_source(KNOWN_SOURCES / "phone", frame=None, num_workers=0)
    batch, labels = next(source.batches(9))
    assert labels.tolist() == [1, 1, 0, 0]
    assert (batch[:2].permute(0, 2, 3, 1).numpy() == pixels[:2]).all()
    assert len(open_images()) == 60


def test_a_known_source_without_a_known_class_is_refused() -> None:
    data = main_set()
    settings = params(FAR).dataset
    settings = settings.model_copy(update={"known_sources": settings.unknown_sources})
    with pytest.raises(InputError, match=r"known_sources: far has the classes elk, but must have images of"):
        load_known_sources(
            settings,
            lambda _: ImageSet(images(2), np.zeros(2, int), ("elk",)),
            like=data,
            known_names=("cat", "dog"),
        )


def test_without_unknown_images_nothing_is_divided() -> None:
    with pytest.raises(InputError, match=r"3 classes are free; split\.num_unknown: 0 trains on all"):
        divide(main_set(), params(num_known=3))


def test_metrics_of_each_source() -> None:
    data = main_set()
    split = divide(data, params(), {"far": ImageSet(images(6), np.repeat([0, 1], 3), ("elk", "gnu"))})
    test, labels = split.test, split.labels[split.test]
    logits = np.eye(2, dtype=np.float32)[np.maximum(labels, 0)]
    weight, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    outputs = Outputs(logits, logits, labels, test, weight, bias)
    unknowns = unknowns_of(split, outputs)
    assert unknowns.sources == ("held_out", "far")
    assert unknowns.names == (("held_out", "elk"), ("far", "elk"), ("far", "gnu"))
    assert unknowns.of_source("far").tolist() == (test[labels < 0] >= 60).tolist()
    # Held-out images score like known ones, those of the far set above all.
    scores = np.where(labels >= 0, 0.0, np.where(test >= 60, 2.0, 0.0))
    settings = load_params(ROOT / "params.yaml").evaluate.model_copy(update={"bootstrap_replicates": 100})
    found = source_metrics(outputs, {"msp": scores}, thresholds={"msp": 1.0}, split=split, settings=settings)
    assert found["far"]["auroc"] == {"msp": 1.0}
    assert found["far"]["auroc_low"]["msp"] < found["far"]["auroc_high"]["msp"] == 1.0
    assert {f"{name}{end}" for name in HEADLINE for end in ("", "_low", "_high")} < set(found["far"])
    assert found["far"]["unknown_rejection"] == {"msp": 1.0}
    assert found["held_out"]["auroc"] == {"msp": 0.5}
    assert found["held_out"]["unknown_rejection"] == {"msp": 0.0}


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ([FAR, FAR], "source is 'far', but must be a name"),
        ([FAR | {"source": "held_out"}], "source is 'held_out', but must be a name"),
        ([FAR | {"source": "a b"}], "source is 'a b', but must be a name"),
        ([FAR | {"nme": 1}], r"unknown key 'dataset.unknown_sources\[0\].nme'; did you mean '.*name'"),
        (
            [FAR | {"name": "cifar1"}],
            r"dataset.unknown_sources\[0\].name is 'cifar1'; did you mean 'cifar10'",
        ),
        ([{"source": "far"}], r"the key 'dataset.unknown_sources\[0\].name' is missing"),
    ],
)
def test_wrong_sources_are_refused(sources: list, sentence: str) -> None:
    content = read_yaml(ROOT / "params.yaml")
    content["dataset"]["unknown_sources"] = sources
    with pytest.raises(InputError, match=sentence):
        check_params(content, source="params.yaml")


def test_people_read_the_set_behind_the_class() -> None:
    split = add_sources(
        divide(main_set(), params()), {"far": ImageSet(images(3), np.zeros(3, int), ("elk",))}
    )
    named = [full_name(*source_and_name(split, number)) for number in range(4)]
    assert named == ["cat", "dog", "elk", "elk (far)"]
