"""Detectors, losses and networks of the user's own: the docs' examples, and who may import them."""

import re
import sys
from pathlib import Path

import pytest
from changed_settings import changed
from extracted import IMAGES
from numpy.testing import assert_array_equal
from test_predict import exportable, model, run, write_run  # noqa: F401 (fixtures)

import osr
from osr.detectors import contract
from osr.detectors.registry import build_detectors, load_detector, own_detector
from osr.errors import InputError
from osr.losses.registry import build_loss, check_background, check_soft_labels
from osr.models.heads import HEADS
from osr.models.settings import HeadSettings
from osr.params import check_params, load_params
from osr.settings.own_code import Broken, source_of
from pipeline import cli
from pipeline.workspace.own_files import check_deps, check_files_elsewhere, missing_deps

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = dict(BLOCK.findall((ROOT / "docs/own_parts.md").read_text(encoding="utf-8")))
OWN = "my_parts:Manhattan"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files of the docs, modules of which are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


LOSS = EXAMPLES["my_losses.py"]


def write(name, text):
    Path(f"{name}.py").write_text(text, encoding="utf-8")


def checked(name, capsys):
    status = cli.main(["check", name])
    return status, capsys.readouterr().out


def detectors(**changes):
    content = {f"detectors.{key}": value for key, value in changes.items()}
    return check_params(changed(content), source="params.yaml").detectors


@pytest.mark.usefixtures("here")
def test_settings_name_detectors_of_ones_own():
    own = {OWN: {"power": 2.0}}
    members = {"members": ["maxlogit", OWN]}
    settings = detectors(enabled=["maxlogit", OWN, "ensemble"], options=own, ensemble=members)
    assert settings.own == (OWN,)
    built = build_detectors(settings)
    assert (list(built), built[OWN].name, built[OWN].power) == (["maxlogit", OWN, "ensemble"], OWN, 2.0)
    assert built["ensemble"].members[1].settings() == {"power": 2.0}
    with pytest.raises(
        InputError, match=r"detectors.options holds 'a:B', but must hold .* used: there is none"
    ):
        detectors(enabled=["maxlogit"], options={"a:B": {}})
    with pytest.raises(InputError, match=r"The settings {'pwer': 2} do not fit detector my_parts:Manhattan"):
        build_detectors(detectors(enabled=["maxlogit", OWN], options={OWN: {"pwer": 2}}))
    with pytest.raises(
        InputError, match=r"'my_parts' has no class of osr.detectors.base.Detector 'Manhatan'; did"
    ):
        own_detector("my_parts:Manhatan", {})
    write(
        "my_named",
        EXAMPLES["my_parts.py"].replace("    needs_fit", '    name: ClassVar[str] = "mav"\n    needs_fit'),
    )
    with pytest.raises(InputError, match=r"the class calls itself 'mav'. Leave `name` out"):
        own_detector("my_named:Manhattan", {})


@pytest.mark.usefixtures("here")
def test_a_file_imports_nothing_that_is_not_allowed(tmp_path):
    ensemble = {"members": ["maxlogit", OWN]}
    built = build_detectors(detectors(enabled=["maxlogit", OWN, "ensemble"], ensemble=ensemble))
    for name in (OWN, "ensemble"):
        path = tmp_path / f"{name}.safetensors"
        built[name].fit(contract.known(0)).save(path)
        for allowed in (None, "my_parts:Other", ["maxlogit"]):
            sys.modules.pop("my_parts", None)
            with pytest.raises(
                InputError,
                match=rf"^{re.escape(str(path))} needs code of somebody's own, '{OWN}'",
            ):
                load_detector(path, allow_code=allowed)
            assert "my_parts" not in sys.modules
        found = load_detector(path, allow_code=OWN).score(contract.known(1))
        assert_array_equal(found, built[name].score(contract.known(1)))
    Path("my_parts.py").unlink()
    sys.modules.pop("my_parts")
    with pytest.raises(
        InputError, match=r"^detectors.enabled 'my_parts:Manhattan': the module 'my_parts' cannot be imported"
    ):
        load_detector(tmp_path / f"{OWN}.safetensors", allow_code=[OWN])


@pytest.mark.usefixtures("exportable")
def test_a_classifier_with_ones_own_detector(here, model, monkeypatch, capsys):  # noqa: F811
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("[maxlogit, mahalanobis]", f"[maxlogit, {OWN}]"))
    monkeypatch.setattr("test_predict.fitted", lambda train, **_: fitted_own(train))
    write_run(here, model)
    assert cli.main(["export", "out"]) == 0
    said = capsys.readouterr().out
    assert f'osr.load("out", allow_code={OWN!r})' in said
    assert f"{OWN} is code of your own: put my_parts.py where it is loaded" in said
    assert f"`{OWN}` (`my_parts.py`)" in Path("out/README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=rf"^out/detectors/{OWN}.safetensors needs code of somebody's own"):
        osr.load("out")
    classifier = osr.load("out", allow_code=OWN)
    found = classifier.predict(IMAGES, detector=OWN)
    assert_array_equal(found.scores, classifier.parts.detectors[OWN][0].score(classifier.outputs(IMAGES)))
    assert load_params(Path("params.yaml")).own_code[1:] == (OWN,)


def fitted_own(train):
    settings = load_params(Path("params.yaml")).detectors
    return {name: detector.fit(train) for name, detector in build_detectors(settings).items()}


HEAD = HEADS["linear"](
    5, 4, HeadSettings(name="linear", bias=False, scale=1.0, temperature=1.0, extra_classes=0)
)


def settings_of(**options):
    content = {"train.loss": "my_losses:Focal", "losses.options": options}
    return check_params(changed(content), source="params.yaml")


def built_loss(name="my_losses:Focal", *, label_smoothing=0.0, head=HEAD, **options):
    losses = settings_of(**options).losses
    return build_loss(name, losses, label_smoothing=label_smoothing, head=head, class_counts=(1, 2, 3, 4))


@pytest.mark.usefixtures("here")
def test_settings_name_a_loss_of_ones_own():
    assert (built_loss().gamma, built_loss(gamma=0.5).gamma) == (2.0, 0.5)
    check_background("my_losses:Focal", 0)
    check_soft_labels("my_losses:Focal", mixing=False)
    for call, told in (
        (
            lambda: built_loss(gama=1),
            "takes the keys of losses.options, and nothing else but head, class_counts",
        ),
        (
            lambda: built_loss(label_smoothing=0.1),
            "train.label_smoothing is 0.1, but must be 0 for train.loss",
        ),
        (lambda: check_background("my_losses:Focal", 3), "would ignore the 3 background images"),
        (lambda: check_soft_labels("my_losses:Focal", mixing=True), "takes no soft labels"),
        (lambda: built_loss("my_losses:Fokal"), "has no class of osr.losses.base.Loss 'Fokal'; did you mean"),
        (
            lambda: check_params(changed({"losses.options": {"a": 1}}), source="p"),
            "must be {} for train.loss 'ce'",
        ),
    ):
        with pytest.raises(InputError, match=told):
            call()
    write(
        "my_extra", LOSS.replace("class Focal(Loss):", "class Focal(Loss):\n    needs_extra_class = True\n")
    )
    with pytest.raises(
        InputError, match=r"model.head.extra_classes is 0, but must be at least 1 for train.loss"
    ):
        built_loss("my_extra:Focal")
    write(
        "my_all",
        LOSS.replace("gamma: float = 2.0", "gamma: float, head, class_counts, num_classes, label_smoothing"),
    )
    assert built_loss("my_all:Focal", gamma=1.5, label_smoothing=0.1).gamma == 1.5
    assert source_of("my_losses:Focal").decode() == LOSS


@pytest.mark.usefixtures("here")
def test_a_stage_that_does_not_watch_the_file_stops(capsys):
    check_deps("fit-openmax", [OWN, "msp"])  # without DVC nothing has to be watched
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    Path("dvc.yaml").write_text(text)
    with pytest.raises(
        InputError, match=r"stage fit-openmax lack my_parts.py, where my_parts:Manhattan stands"
    ):
        check_deps("fit-openmax", ["msp", OWN])
    check_deps("fit-openmax", ["msp", "torchvision.models:resnet18"])
    said = checked(OWN, capsys)[1]
    assert said.endswith("dvc.yaml: add the line `- my_parts.py` to the deps of fit-openmax and evaluate.\n")
    Path("dvc.yaml").write_text(
        text.replace("      - artifacts/split\n", "      - artifacts/split\n      - my_parts.py\n")
    )
    check_deps("fit-openmax", [OWN])
    assert missing_deps("evaluate", [Path("my_parts.py"), Path("osr/metrics/a.py"), Path("b.py")]) == ["b.py"]
    Path("dvc.yaml").write_text("stages: {evaluate: {deps: [osr, {a.py: }]}}")
    assert missing_deps("evaluate", [Path("a.py"), Path("b.py"), Path("osr/c.py")]) == ["b.py"]
    Path("dvc.yaml").write_text("stages: {train: {cmd: x}}")
    with pytest.raises(InputError, match=r"dvc.yaml has no stage evaluate with deps"):
        check_deps("evaluate", [OWN])


def test_broken_is_no_input_error():
    assert not issubclass(Broken, InputError)


def test_photos_that_were_moved_are_told_before_dvc_starts(here):
    photos = here.parent / f"{here.name}_photos"
    stages = f"stages: {{prepare-split: {{deps: [my_parts.py, gone.py, {photos}]}}}}"
    (here / "dvc.yaml").write_text(stages, encoding="utf-8")
    with pytest.raises(InputError, match=r"_photos, which stage prepare-split reads, is not there any more"):
        check_files_elsewhere()
    photos.mkdir()
    check_files_elsewhere()  # files of the project are DVC's to name
