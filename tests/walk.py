"""Walks through a page of the documents as its reader does: each block in order, in a clean folder.

    python tests/walk.py docs/tutorials/photos.md [FOLDER]     # walks, says what it does
    python tests/walk.py --write docs/tutorials/photos.md      # and puts what came out into the page
    python tests/walk.py --reasons                             # every block that is not run, and why

Blocks of `sh` and `python` are run; a block of Python or YAML whose first line is `# NAME.py` or
`# NAME.yaml` is that file. A block of `text` behind one is what it printed, with numbers that may differ a
little on another machine; lines may be left out, `…` stands for anything. What else a page says of its walk
stands in comments, which its reader does not see:

    <!-- in: a clone -->                the page begins in a clone of this repository, not in an empty folder
    <!-- after: photos.md -->           it goes on where that page, beside it, has ended
    <!-- given:                         commands that make what the page takes as given
    osr run
    -->
    <!-- serves: URL -->                the next block is a server, which answers there; it ends with the page
    <!-- not run: REASON -->            of the next block
    <!-- no block is run: REASON -->    of the page
    <!-- picture: figures/oscr.png as ../pictures/oscr.png -->   what --write copies into docs/; of a
                                        page of HTML, what chromium shows: `FILE.html 1200x700 as …`
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from walk_printed import WalkError, as_printed, far_apart
from walk_server import served

ROOT = Path(__file__).parents[1]
PIECE = re.compile(
    r"^<!-- (?P<word>in|after|given|serves|not run|no block is run|picture):\s(?P<said>.*?)\s?-->$"
    r"|^```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
FENCE = re.compile(r"^[ \t>]*(?:```|~~~).*$", re.MULTILINE)
LANGUAGES = ("sh", "python", "yaml", "text")
FILE = re.compile(r"# ([\w./]+\.(?:py|yaml))\b")
FOREIGN = ("MLFLOW_", "DVC_", "OSR_", "GIT_")
TIMEOUT_S = 3600


@dataclass
class Walk:
    """Where the reader of a page stands: a folder, and the file of what a shell leaves to the next block."""

    folder: Path
    home: Path
    printed: str = ""
    loud: bool = False
    servers: ExitStack = field(default_factory=ExitStack)

    def environment(self) -> dict[str, str]:
        """Our environment with `osr` of this checkout; nothing that steers git, DVC or MLflow."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        programs = self.home / "bin"
        programs.mkdir(exist_ok=True)
        for name, module in {"osr": "pipeline.cli", "osr-runtime": "osr_runtime.cli"}.items():
            text = f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n'
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)
        path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
        people = {"AUTHOR": "Reader", "COMMITTER": "Reader"}
        names = {f"GIT_{who}_NAME": name for who, name in people.items()}
        names |= {f"GIT_{who}_EMAIL": "reader@example.org" for who in people}
        packages = os.pathsep.join((str(ROOT), str(ROOT / "runtime")))
        return clean | names | {"PATH": path, "PYTHONPATH": packages, "COLUMNS": "100"}

    def run(self, command: list[str]) -> None:
        """Run a program here; keeps what it printed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        self.printed = done.stdout.replace("\r", "\n")
        if self.loud:
            print(f"$ {command[-1]}\n{self.printed}", flush=True)
        if done.returncode:
            raise WalkError(f"status {done.returncode} of {command[-1]}\n{self.printed[-3000:]}")

    def shell(self, body: str) -> None:
        """Run commands, and stay in the folder and with the variables in which they end."""
        after = f"\ndeclare -px | grep -v PATH= > {self.home}/state; pwd > {self.home}/pwd\n"
        self.run(["bash", "-euo", "pipefail", "-c", self.left_over() + body + after])
        self.folder = Path((self.home / "pwd").read_text(encoding="utf-8").strip())

    def left_over(self) -> str:
        """What brings the variables of the last block back."""
        state = self.home / "state"
        return f'. "{state}"\n' if state.exists() else ""

    def serve(self, body: str, url: str) -> None:
        """Start a server and wait for its answer; it ends with the page."""
        command = ["bash", "-euo", "pipefail", "-c", self.left_over() + body]
        self.servers.enter_context(served(command, url, self.folder, self.environment()))

    def python(self, body: str) -> None:
        """Run Python here."""
        file = self.home / "block.py"
        file.write_text(body, encoding="utf-8")
        self.run([sys.executable, str(file)])


def pieces(page: Path) -> list[re.Match[str]]:
    """The blocks of a page and what it says of its walk, in order."""
    return list(PIECE.finditer(page.read_text(encoding="utf-8")))


def is_block(piece: re.Match[str]) -> bool:
    """Whether it is to be run: commands, Python, or a file that has a name."""
    return piece["language"] in ("sh", "python") or bool(
        piece["language"] == "yaml" and FILE.match(piece["body"])
    )


def begin(page: Path, home: Path, walked: dict[Path, Walk], *, loud: bool = False) -> Walk:
    """The folder in which a page begins; a page before it is walked first."""
    said = {piece["word"]: piece["said"] for piece in pieces(page) if piece["word"]}
    if "after" in said:
        earlier = (page.parent / said["after"]).resolve()
        if earlier not in walked:
            walk(earlier, home, walked, loud=loud)
        return Walk(walked[earlier].folder, walked[earlier].home, loud=loud)
    place = Path(tempfile.mkdtemp(dir=home))
    (place / "work").mkdir()
    begun = Walk(place / "work", place, loud=loud)
    if said.get("in") == "a clone":
        begun.run(["git", "clone", "--quiet", str(ROOT), "."])
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, files.stdout.split("\0")):
            if (ROOT / name).is_file():
                (begun.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, begun.folder / name)
        begun.shell("git add --all && { git diff --cached --quiet || git commit --quiet -m 'as it is'; }")
    return begun


def walk(
    page: Path, home: Path, walked: dict[Path, Walk], *, write: bool = False, loud: bool = False
) -> Walk:
    """Run a page; with `write` its pictures and what its blocks printed are put into docs/.

    Raises:
        WalkError: a block fails, or a page shows what was not printed.
    """
    page = page.resolve()
    at = begin(page, home, walked, loud=loud)
    with at.servers:
        text = follow(page, at, write=write)
    if write:
        page.write_text(text, encoding="utf-8")
    walked[page] = at
    return at


def follow(page: Path, at: Walk, *, write: bool) -> str:
    """Run the blocks of a page; gives its text with what they printed."""
    text = page.read_text(encoding="utf-8")
    word = url = ""  # what was said of the next block
    skipped = False
    for piece in pieces(page):
        if piece["word"] == "given":
            at.shell(piece["said"])
            skipped = False
        elif piece["word"] == "picture":
            take_picture(at.folder, page, piece["said"], write=write)
        elif piece["word"] in ("not run", "serves"):
            word, url = piece["word"], piece["said"]
        elif is_block(piece):
            at.printed, skipped = "", word != ""
            if word == "serves":
                at.serve(piece["body"], url)
            elif not skipped:
                run_block(at, piece)
            word = ""
        elif piece["language"] == "text" and not skipped:
            made = as_printed(piece["body"], at.printed)
            if write:
                text = text.replace(piece["body"], made, 1)
            elif far := far_apart(piece["body"], made):
                raise WalkError(f"{page.name} shows other numbers than were printed: {far}")
    return text


def run_block(at: Walk, piece: re.Match[str]) -> None:
    """Run a block, or write the file that it is."""
    if named := FILE.match(piece["body"]):
        (at.folder / named[1]).write_text(piece["body"], encoding="utf-8")
    else:
        (at.shell if piece["language"] == "sh" else at.python)(piece["body"])


def take_picture(folder: Path, page: Path, said: str, *, write: bool) -> None:
    """Look whether the source of a picture was made; with `write` copy or photograph it."""
    found = re.fullmatch(r"(\S+?)(?: (\d+)x(\d+)(?:\+(\d+))?)? as (\S+)", said)
    if found is None:
        raise WalkError(f"no picture: {said}")
    source, target = folder / found[1], page.parent / found[5]
    if not source.is_file():
        raise WalkError(f"{found[1]} was not made")
    if not write:
        return
    target.parent.mkdir(exist_ok=True)
    if source.suffix == ".html":
        width, height, top = (int(number or 0) for number in found.group(2, 3, 4))
        shot = target.with_suffix(".shot.png")
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=3000",
             f"--window-size={width},{height + top}", f"--screenshot={shot}", source.as_uri()],
            capture_output=True, check=True,
        )  # fmt: skip
        source, image = shot, Image.open(shot).crop((0, top, width, top + height))
    else:
        image = Image.open(source)
    image.thumbnail((1200, 1200))
    image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    if source.name.endswith(".shot.png"):
        source.unlink()


def reasons(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page that are not run: the first line of each, and the reason."""
    found, reason, whole = [], "", ""
    for piece in pieces(page):
        if piece["word"] == "no block is run":
            whole = piece["said"]
        elif piece["word"] == "not run":
            reason = piece["said"]
        elif is_block(piece):
            if reason or whole:
                found.append((piece["body"].strip().splitlines()[0], reason or whole))
            reason = ""
    return found


def runs(page: Path) -> int:
    """How many blocks of a page are run."""
    return sum(is_block(piece) for piece in pieces(page)) - len(reasons(page))


def all_pages() -> list[Path]:
    """Every page of the repository that has a block, README first."""
    found = [ROOT / "README.md", *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
    return [page for page in dict.fromkeys(found) if FENCE.search(page.read_text(encoding="utf-8"))]


def unseen(page: Path) -> list[str]:
    """Fences of blocks that a walk would pass over: indented ones, and those in no language that it knows."""
    text = page.read_text(encoding="utf-8")
    rest = PIECE.sub(lambda piece: "" if piece["language"] in (None, *LANGUAGES) else piece.group(), text)
    return [fence.group().strip() for fence in FENCE.finditer(rest)]


def main() -> None:
    """Walk the pages of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--reasons", action="store_true")
    parser.add_argument("--folder", type=Path, help="a folder that stays")
    options = parser.parse_args()
    runpy.run_path(str(ROOT / "runtime/copies.py"), run_name="__main__")  # as tests/conftest.py does
    if options.reasons:
        for page in all_pages():
            print(f"{page.relative_to(ROOT)}: {runs(page)} run")
            for line, reason in reasons(page):
                print(f"  not run: {line}\n    {reason}")
        return
    with tempfile.TemporaryDirectory() as name:
        walked: dict[Path, Walk] = {}
        for page in options.pages:
            walk(page, options.folder or Path(name), walked, write=options.write, loud=True)
            print(f"{page}: {runs(page)} blocks run")


if __name__ == "__main__":
    main()
