"""Where commands write: what must stay is not replaced, and all is checked before any work is done."""

import socket
from pathlib import Path

import pytest
from pages import check_section
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run  # noqa: F401 (fixtures)

from osr.errors import InputError
from osr.inference.classifier import OpenSetClassifier
from osr.plots.style import PRINTERS
from pipeline import cli
from pipeline.arguments import growing_folder, new_file, new_folder, new_picture, new_stem
from pipeline.places import PICTURES, form_of
from pipeline.serving.serve import listening

# One case of each command with this output, up to the option.
FILES = {
    "predict new --output": "new",
    "predict new --gallery": "new",
    "monitor v.csv --model classifier --state": "v.csv",
    "compare --out": "",
}
PICTURE_OF = ("monitor v.csv --model classifier --plot", "compare --diagram")
FOLDERS = {
    "export present": "",
    "recalibrate classifier new --out": "new",
    "discover classifier new --out": "new",
    "discover classifier --verdicts v.csv --out": "v.csv",
}


@pytest.fixture
def project(exportable: Path) -> Path:  # noqa: F811
    """A project, an exported classifier, images and a table, in the working directory."""
    assert cli.main(["export", "classifier"]) == 0
    png(Path("new/a.png"))
    for name in ("v.csv", "dvc.yaml", "metrics/evaluate.json", "metrics/plot.json", "dvc.lock"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("earlier")
    return exportable


HEADING = "Places where a command does not write"
INTRODUCTION = (
    "`pytest -n 0 tests/test_places.py` asks each command that has an output (`export`, `predict`,\n"
    "`recalibrate`, `discover`, `monitor`, `compare`, `leaderboard`) for these. It says so before any work,\n"
    "and no file changes.\n\n"
    "| place | what is said |\n|---|---|\n"
)


def refused(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said; every file stays as it was."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    capsys.readouterr()
    assert cli.main(command.split()) == 1, command
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_every_output_of_every_command_is_one_that_is_checked() -> None:
    types = (new_file, new_picture, new_stem, new_folder, growing_folder)
    names = ("out", "output", "gallery", "state", "plot", "diagram")
    for action in cli._actions(cli.make_parser()):
        assert (action.type in types) == (action.dest in names), action


PLACES_OF_FILES = {
    "nowhere/x.csv": "nowhere/x.csv cannot be written: No such file or directory.",
    "new": "new is a folder or a device, but must be a file to write.",
    "/dev/full": "/dev/full is a folder or a device, but must be a file to write.",
    "new/a.png": "new/a.png has the name of an image, and would replace it: choose another.",
    "v.csv/x": "v.csv/x cannot be written: Not a directory.",
    "classifier/classifier.json": "classifier/classifier.json lies in the exported classifier",
    "metrics/evaluate.json": "metrics/evaluate.json belongs to the project in",
    "artifacts/model/x.csv": "artifacts/model/x.csv belongs to the project in",
    "params.yaml": "params.yaml belongs to the project in",
    "dvc.lock": "dvc.lock belongs to the project in",
}
PLACES_OF_PICTURES = {
    "e.docx": "e.docx must end in .png, .pdf, .svg.",
    "nowhere/x.png": "nowhere/x.png cannot be written: No such file or directory.",
    "figures/x.png": "figures/x.png belongs to the project in",
}
PLACES_OF_FOLDERS = {
    "new": "new exists: choose another name, or remove it.",
    "classifier/x": "classifier/x lies in the exported classifier",
    "artifacts/model/x": "artifacts/model/x belongs to the project in",
    "v.csv/x": "v.csv/x cannot be written: ",
}


@pytest.mark.usefixtures("project")
def test_no_command_writes_where_it_must_not(capsys) -> None:
    lines = []
    for command, read in FILES.items():
        for place, said in PLACES_OF_FILES.items():
            assert said in refused(f"{command} {place}", capsys)
        if read == "v.csv":
            assert "v.csv is also read, and would be replaced" in refused(f"{command} v.csv", capsys)
    for command in PICTURE_OF:
        for place, said in PLACES_OF_PICTURES.items():
            assert said in refused(f"{command} {place}", capsys)
    for command, read in FOLDERS.items():
        for place, said in PLACES_OF_FOLDERS.items():
            assert said in refused(f"{command} {place}", capsys)
        if read == "new":
            assert "new/x/y lies in new, which is read" in refused(f"{command} new/x/y", capsys)
    for kind, places in (
        ("file", PLACES_OF_FILES), ("figure", PLACES_OF_PICTURES), ("folder", PLACES_OF_FOLDERS),
    ):  # fmt: skip
        lines += [
            f"| {kind} {place} | *{said}{'' if said.endswith('.') else ' …'}* |"
            for place, said in places.items()
        ]
    lines += [
        "| a file that is read | *--state v.csv is also read, and would be replaced: choose another name.* |",
        "| a folder in one that is read | *new/x/y lies in new, which is read: choose a place beside it.* |",
        "| two outputs in one file | *--out and --diagram are both x.svg, but must be two files.* |",
    ]
    check_section("reliability.md", HEADING, INTRODUCTION + "\n".join(lines))


@pytest.mark.usefixtures("project")
def test_a_folder_of_shards_may_be_there_already(capsys) -> None:
    said = refused("predict new --shard 1/2 --out classifier", capsys)
    assert "classifier/part lies in the exported classifier" in said
    assert "exists" not in refused("predict new --shard 1/2 --out new", capsys)


@pytest.mark.usefixtures("project")
def test_two_outputs_are_two_files_and_both_are_checked_first(capsys) -> None:
    for command in (
        "predict new --output x --gallery ./x",
        "compare --out x.svg --diagram x.svg",
        "monitor v.csv --model classifier --state x.svg --plot x.svg",
    ):
        assert "x, but must be two files." in refused(command, capsys).replace("x.svg", "x")
    assert "nowhere/y.png cannot be written" in refused("compare --out v.md --diagram nowhere/y.png", capsys)


@pytest.mark.usefixtures("project")
def test_what_is_read_is_not_replaced(capsys) -> None:
    Path("t.parquet").write_bytes(b"")
    assert "--output t.parquet is also read" in refused("predict t.parquet --output t.parquet", capsys)


@pytest.mark.usefixtures("project")
def test_what_is_not_there_is_told_before_a_classifier_is_loaded(capsys, monkeypatch) -> None:
    def load(*_arguments: object, **_options: object) -> None:
        raise AssertionError

    monkeypatch.setattr(OpenSetClassifier, "load", load)
    commands = {
        "discover classifier --out found --verdicts": "gone.csv is missing: `osr predict --output gone.csv`",
        "monitor --model classifier v.csv": "gone.csv is missing: `osr predict --output gone.csv` makes such",
        "recalibrate classifier --out found": "gone.csv is no folder with images of known classes.",
        "predict --model classifier new": "gone.csv does not exist.",
        "discover --out found classifier new": "gone.csv does not exist.",
    }
    for command, said in commands.items():
        assert said in refused(f"{command} gone.csv", capsys)
    for command in (
        "predict --model classifier new", "discover --out found classifier new",
        "discover classifier --out found --verdicts v.csv", "monitor --model classifier v.csv",
    ):  # fmt: skip
        for name, said in (("MLS", "; did you mean 'maxlogit'? It must"), ("vim", ", but must")):
            asked = f"detector is {name!r}{said} be one of maxlogit, mahalanobis"
            assert asked in refused(f"{command} --detector {name}", capsys)
    with pytest.raises(AssertionError):
        cli.main(["monitor", "--model", "classifier", "v.csv", "--detector", "mahalanobis"])


@pytest.mark.usefixtures("project")
def test_a_leaderboard_gets_a_name_of_its_own(capsys) -> None:
    for stem in ("/dev/null", "metrics/evaluate.json", ".", "new", "/"):
        said = refused(f"leaderboard --out {stem}", capsys)
        assert f"--out {stem} must be a new name, which .csv, .md, .png are put behind." in said
    Path("x.csv").mkdir()
    assert "x.csv is a folder or a device" in refused("leaderboard --out x", capsys)
    assert "artifacts/model/b/c belongs to the project" in refused(
        "leaderboard --out artifacts/model/b/c", capsys
    )
    with pytest.raises(SystemExit):
        cli.main(["leaderboard", "--out", ""])
    assert "a path must not be empty" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_a_format_and_an_ending_that_disagree(capsys) -> None:
    for command, place, meant in (
        ("predict new --format csv --output", "x.parquet", "parquet"),
        ("predict new --format json --output", "x.csv", "csv"),
        ("compare --format latex --out", "x.md", "markdown"),
        ("compare --format terminal --out", "x.csv", "csv"),
    ):
        said = refused(f"{command} {place}", capsys)
        assert f"does not go with {place}, whose ending means {meant}: leave --format away" in said
    endings = {".csv": "csv", ".json": "json"}
    assert form_of(Path("a.JSON"), None, endings, "csv") == "json"
    with pytest.raises(InputError, match=r"a\.txt must end in \.csv, \.json, or --format must say"):
        form_of(Path("a.txt"), None, endings, "csv")
    assert form_of(Path("a"), None, endings, "csv") == "csv"
    assert form_of(Path("a.txt"), "json", endings, "csv") == "json"
    assert form_of(None, None, endings, "csv") == "csv"


def test_endings_of_figures() -> None:
    assert tuple(PRINTERS) == PICTURES


def test_a_port_or_host_where_nobody_can_listen(folder, capsys, monkeypatch) -> None:  # noqa: F811
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", str(folder), "--port", str(port)]) == 1
        said = capsys.readouterr().err
        assert said == (
            f"ERROR: Nobody can listen on port {port} of 127.0.0.1 (Address already in use): choose another"
            " --port, or a --host of this machine.\n"
        )
    with pytest.raises(InputError, match=r"Nobody can listen on port 8000 of 192\.0\.2\.1 \(Cannot assign"):
        listening("192.0.2.1", 8000)
    with pytest.raises(InputError, match=r"--host a{80}: no such name or address \("):
        listening("a" * 300, 8000)

    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(InputError, match=r"--host nowhere: no such name"):
            listening("nowhere", 8000)
    with pytest.raises(SystemExit):
        cli.main(["serve", str(folder), "--host", ""])
    assert "argument --host: must be a name or an address, not nothing" in capsys.readouterr().err
    (one,) = listening("127.0.0.1", 0)
    with one, socket.create_connection(one.getsockname()):
        pass


def test_code_that_nothing_asks_for_is_told(folder, capsys, caplog) -> None:  # noqa: F811
    png(Path("new/a.png"))
    asked = ["predict", "new", "--model", str(folder), "--allow-code"]
    assert cli.main([*asked, "my.module:Class"]) == 0
    assert "--allow-code my.module:Class was not needed: the network is small_convnet" in caplog.text
    for text in ("", "class", "a:b:c", "../a.py:B", "a:B()"):
        with pytest.raises(SystemExit):
            cli.main([*asked, text])
        assert f"argument --allow-code: must be module:Class, not {text}" in capsys.readouterr().err
