"""The exported folder: the same verdicts as the stages, wherever it is read; decisions from stored scores."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from extracted import CPU, IMAGES, build, split_of_images
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from tampering import rewrite
from test_predict import exportable, fitted, known_outputs, load, model, run, write_run  # noqa: F401 (fixtures)

import osr
from osr.data.batches import ArrayImages
from osr.detectors.logit_scores import MaxLogit
from osr.detectors.rotpred import RotPred
from osr.errors import InputError
from osr.inference.extraction import extract
from osr.inference.judgement import Decision
from osr.metrics.thresholds import conformal_p_values, fit_threshold
from osr.params import load_params
from osr.stored.origin import Origin
from pipeline import cli
from pipeline.serving.export import export
from pipeline.workspace.stages import PARAMS, STAGES

NAMES = ("maxlogit", "mahalanobis")
FILES = (
    "README.md",
    "calibration.json",
    "classifier.json",
    "detectors/mahalanobis.safetensors",
    "detectors/maxlogit.safetensors",
    "model.safetensors",
    "thresholds.json",
    "trained_on.safetensors",
    "validation_scores.safetensors",
)


@pytest.fixture
def folder(exportable, tmp_path_factory, monkeypatch):  # noqa: F811
    """An exported folder, read far from the project."""
    out = tmp_path_factory.mktemp("away") / "classifier"
    export(out, load_params(PARAMS))
    monkeypatch.chdir(out.parent)
    shutil.rmtree(exportable)
    return out


def test_the_folder_judges_as_the_run_does(exportable):  # noqa: F811
    assert cli.main(["export", "out", "--detector", "mahalanobis"]) == 0
    assert tuple(sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*"))) == FILES
    classifier = osr.load("out", device="cpu")
    assert (classifier.class_names, classifier.detectors) == (("a", "b", "c"), NAMES)
    for name in NAMES:
        expected = load(name, batch_size=256).predict(IMAGES)
        found = classifier.predict(IMAGES, detector=name)
        assert found.labels == expected.labels
        assert_array_equal(found.scores, expected.scores)
        assert_array_equal(found.probabilities, expected.probabilities)
    assert_array_equal(classifier.predict(IMAGES).scores, found.scores)  # mahalanobis, as was asked
    export(exportable / "again", load_params(PARAMS), detector="mahalanobis")
    for name in FILES:
        assert Path("out", name).read_bytes() == Path("again", name).read_bytes()
    assert cli.main(["export", str(exportable), "elsewhere"]) == 0
    assert osr.load("elsewhere").detector == "maxlogit"


@pytest.mark.usefixtures("exportable")
def test_what_speaks_against_it_is_said_and_stands_in_the_card(monkeypatch, caplog):
    metrics = {"closed_set": {"accuracy": 0.9}, "unknown_rejection": {"maxlogit": 0.2, "mahalanobis": 0.9}}
    STAGES["evaluate"].metrics.parent.mkdir(exist_ok=True)
    STAGES["evaluate"].metrics.touch()
    monkeypatch.setattr("pipeline.serving.card.stage_metrics", lambda _: metrics)
    assert cli.main(["export", "good", "--detector", "mahalanobis"]) == 0
    assert "do not use" not in caplog.text + Path("good/README.md").read_text()
    assert cli.main(["export", "bad"]) == 0
    for told in (caplog.text, Path("bad/README.md").read_text()):
        assert (
            "80% of the unknown images were accepted as known by maxlogit: do not use this as it is" in told
        )
        assert "plot.detector: mahalanobis, which rejects 90%" in told


def test_a_network_that_tells_turns_is_exported_and_its_graph_refused(exportable, monkeypatch, capsys):  # noqa: F811
    """Its detector asks the network three times more, wherever the folder is read."""
    network, rows = build(rotations=True), np.arange(len(IMAGES))
    network.made_from = Origin(split=split_of_images().digest)
    images = ArrayImages(IMAGES, rows, torch.from_numpy(rows % 3))
    options = {"index": rows, "batch_size": 8, "device": CPU, "title": "test", "again": [RotPred()]}
    monkeypatch.setattr("test_predict.known_outputs", lambda network: extract(network, images, **options))
    made = {"maxlogit": MaxLogit, "rotpred": RotPred}
    monkeypatch.setattr(
        "test_predict.fitted", lambda train: {name: kind().fit(train) for name, kind in made.items()}
    )
    for before, after in (
        ("[maxlogit, mahalanobis]", "[maxlogit, rotpred]"),
        ("rotation_head: false", "rotation_head: true"),
        ("rotations: false", "rotations: true"),
    ):
        PARAMS.write_text(PARAMS.read_text().replace(before, after, 1))
    write_run(exportable, network)
    assert cli.main(["export", "out", "--detector", "rotpred"]) == 0
    classifier = osr.load("out")
    assert (classifier.detector, classifier.detectors) == ("rotpred", ("maxlogit", "rotpred"))
    expected = RotPred().score(extract(network, images, **options))
    assert_allclose(classifier.predict(IMAGES).scores, expected, rtol=1e-4, atol=1e-6)
    assert cli.main(["export", "graph", "--detector", "rotpred", "--onnx"]) == 1
    assert "rotpred has no graph: rotpred needs the network four times" in capsys.readouterr().err
    assert not Path("graph").exists()


def test_decisions_follow_from_stored_scores(folder, model):  # noqa: F811
    known = known_outputs(model)
    scores = fitted(known)["maxlogit"].score(known)
    classifier = osr.load(folder)
    found = classifier.predict(IMAGES)
    assert_array_equal(found.p_values, conformal_p_values(scores, found.scores))
    for accept in (0.5, 0.99, 1.0):
        theta = fit_threshold(scores, target_acceptance=accept).value
        judged = classifier.predict(IMAGES, accept=accept)
        assert_array_equal(np.array(judged.labels) == "unknown", found.scores > theta)
    for p_value in (1 / 31, 0.1, 1.0):
        judged = classifier.predict(IMAGES, p_value=p_value)
        assert_array_equal(np.array(judged.labels) == "unknown", found.p_values <= p_value)
    assert set(classifier.predict(IMAGES, threshold=-1e9).labels) == {"unknown"}
    for asked, share in (({"accept": 0.9}, 0.1), ({"accept": 1.0}, 1 / 31), ({"p_value": 0.1}, 3 / 31)):
        assert classifier.expected_rejection(Decision(**asked)) == pytest.approx(share)
    for row, best in zip(found.probabilities, found.top(2), strict=True):
        assert [name for name, _ in best] == [found.class_names[index] for index in np.argsort(-row)[:2]]
        assert [share for _, share in best] == sorted(row.tolist(), reverse=True)[:2]


def test_images_may_come_as_anything(folder, tmp_path):
    files = [tmp_path / "new" / f"{number}.png" for number in range(3)]
    files[0].parent.mkdir(parents=True)
    for file, image in zip(files, IMAGES, strict=False):
        Image.fromarray(image[..., 0]).save(file)
    classifier = osr.load(folder)
    expected = classifier.predict(IMAGES[:3]).scores
    together = [files[0], files[1].read_bytes(), Image.open(files[2])]
    for given in (
        files[0].parent,
        [str(file) for file in files],
        together,
        list(IMAGES[:3]),
        IMAGES[:3, ..., 0],
    ):
        if isinstance(given, np.ndarray):
            given = list(given)
        assert_array_equal(classifier.predict(given).scores, expected)
    assert classifier.predict(together).names == (str(files[0]), "1", "2")
    assert classifier.predict(files[0]).scores.tolist() == expected[:1].tolist()
    colour = Image.open(files[2]).convert("CMYK")
    assert np.isfinite(classifier.predict([colour, colour.convert("RGBA")]).scores).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"threshold": 1.0, "accept": 0.9}, "Only one of threshold, accept and p_value may be given, not"),
        ({"accept": 1.5}, "accept is 1.5, but must be above 0 and at most 1."),
        ({"accept": "0.9"}, "accept is '0.9', but must be a number."),
        ({"p_value": True}, "p_value is True, but must be a number."),
        ({"threshold": "1"}, "threshold is 1, but must be a number."),
        (
            {"p_value": 0.0322},
            r"p_value is 0\.0322, which rejects nothing: with 30 known images held out none is",
        ),
        ({"p_value": -0.1}, r"p_value is -0.1, but must lie in 0\.\.1"),
        ({"p_value": float("nan")}, r"p_value is nan, but must lie in 0\.\.1"),
        ({"detector": "vim"}, "detector is 'vim', but must be one of maxlogit, mahalanobis"),
        ({"detector": "maxlogits"}, r"'maxlogits'; did you mean 'maxlogit'\? It must be one of maxlogit"),
        ({"inputs": [b"no image"]}, "image 0 is no image that can be read"),
        ({"inputs": [3]}, "image 0 must be a path, bytes, a Pillow image or an array"),
        ({"inputs": "missing.png"}, "missing.png does not exist"),
    ],
)
def test_mistakes_are_one_sentence(folder, options, sentence):
    with pytest.raises(InputError, match=sentence):
        osr.load(folder).predict(**{"inputs": IMAGES[:1]} | options)


def test_a_changed_byte_or_a_mixture_is_refused_by_name(folder):
    for name in FILES:
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(InputError, match=name.split("/")[-1]):
            osr.load(folder)
        path.unlink()
        with pytest.raises(InputError, match=f"{name} is missing"):
            osr.load(folder)
        path.write_bytes(whole)
    build().save(folder / "model.safetensors")  # without a split: another file
    with pytest.raises(InputError, match=r"model\.safetensors was changed after the export"):
        osr.load(folder)
    digest = osr.stored.files.file_digest(folder / "model.safetensors")
    rewrite(
        folder / "classifier.json", lambda content: content["files"].update({"model.safetensors": digest})
    )
    with pytest.raises(InputError, match=r"calibration\.json was made from weights"):
        osr.load(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content["files"].update({"../x": "0" * 16}), "files must be README.md, calibration"),
        (lambda content: content["files"].pop("README.md"), "files must be README.md, calibration"),
        (lambda content: content.update(detector="vim"), "detector is 'vim', but must be one of detectors"),
        (lambda content: content.update(batch_size=0), "batch_size is 0, but must be at least 1"),
        (lambda content: content.update(detectors=["../../x"]), "files must be"),
    ],
)
def test_a_manifest_that_is_none(folder, change, sentence):
    rewrite(folder / "classifier.json", change)
    with pytest.raises(InputError, match=f"classifier.json is damaged.*{sentence}"):
        osr.load(folder)


def test_a_folder_that_is_there_is_not_replaced(exportable, capsys):  # noqa: F811
    (exportable / "out").mkdir()
    assert cli.main(["export", "out"]) == 1
    assert "out exists: choose another name, or remove it." in capsys.readouterr().err
    assert cli.main(["export", "nowhere", "new"]) == 1
    assert "nowhere must be present, or the folder of a project" in capsys.readouterr().err
    with pytest.raises(InputError, match="is no folder: `osr export` makes one"):
        osr.load("new")
