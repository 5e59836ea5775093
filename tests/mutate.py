"""Mutation testing: a room's code is changed in one place, and its tests must fail; again and again.

    pytest -n 0 --dist no --cov --cov-context=test --junitxml=/tmp/times.xml     # which test runs which line
    python tests/mutate.py osr/metrics --times /tmp/times.xml --sample 120 --out /tmp/metrics.jsonl

A mutant meets the tests that run its line, in a fork of a process that holds PyTorch already; first those of
a few files that take 10 s at most, and only where it survives them others, up to --longest. Code that runs at
import meets the tests of everything in its file, and those beside them. A run that is stopped goes on where
--out ends. What is changed: tests/mutants.py.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
# Half of a short run is compiling, where no bytecode may be written beside the sources.
sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(tempfile.gettempdir()) / "mutate-bytecode")

import pytest  # noqa: E402
from coverage import CoverageData  # noqa: E402
from mutants import Mutant, mutants  # noqa: E402

ROOT = Path(__file__).parents[1]
SETTINGS_TESTS = ("test_config.py", "test_config_relations.py")  # of schemas, whose lines run at import alone
QUICK_FILES, QUICK_S = 4, 10.0
MEMORY = 6 << 30
WORDS = {0: "survived", 1: "killed", 2: "import", 3: "killed"}  # by the status of pytest
NOT_RUN = 70
LOG = Path(tempfile.gettempdir()) / f"mutate-{os.getpid()}.log"


class Mutated(importlib.abc.MetaPathFinder, importlib.machinery.SourceFileLoader):
    """Imports one module from a changed tree."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        importlib.machinery.SourceFileLoader.__init__(self, self.module, str(path))
        self.changed = code

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:  # noqa: ARG002
        """Its spec, for its name."""
        here = self.path if name == self.module else None  # a spec without a place gives no __file__
        return here and importlib.util.spec_from_file_location(name, here, loader=self)

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        """The changed code."""
        return self.changed


class Quick:
    """Hypothesis says that there is a counterexample, and looks for no smaller one."""

    def pytest_configure(self) -> None:
        """Before the tests are imported, after tests/conftest.py."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", deadline=None, phases=phases, database=None, derandomize=True)
        settings.load_profile("mutants")


def seconds_of_tests(reports: Sequence[Path]) -> dict[str, float]:
    """Seconds of each test by its name in pytest; those that were skipped are left out."""
    found = {}
    for case in (case for report in reports for case in ElementTree.parse(report).iter("testcase")):
        if case.find("skipped") is None:
            file = case.get("classname", "").replace(".", "/")
            found[f"{file}.py::{case.get('name')}"] = float(case.get("time", 0.0))
    return found


class Tests:
    """Which tests run a line, and in what order they are tried."""

    def __init__(self, coverage_file: Path, times: dict[str, float]) -> None:
        self.data = CoverageData(str(coverage_file))
        self.data.read()
        self.times = times
        self.lines: dict[Path, dict[int, list[str]]] = {}

    def of(self, path: Path, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's statement; those of its file and beside them, if that is at import.

        The nearest and quickest come first; none where no test runs it.
        """
        lines = self.lines.setdefault(path, self.data.contexts_by_lineno(str(path)))
        told = {name for line in range(mutant.first, mutant.last + 1) for name in lines.get(line, ())}
        named = {name.rpartition("|")[0] for name in told} & self.times.keys()
        if told and not named:
            named = {name.rpartition("|")[0] for held in lines.values() for name in held} & self.times.keys()
            files = {name.partition("::")[0] for name in named}
            files |= set() if named else {f"tests/{name}" for name in SETTINGS_TESTS}
            named = {name for name in self.times if name.partition("::")[0] in files}
        near = {name: path.stem not in name.partition("::")[0] for name in named}
        return sorted(named, key=lambda name: (near[name], self.times[name], name))

    def quick(self, names: Sequence[str]) -> list[str]:
        """The first of them, of a few files."""
        files = list(dict.fromkeys(name.partition("::")[0] for name in names))[:QUICK_FILES]
        return self.within([name for name in names if name.partition("::")[0] in files], QUICK_S)

    def within(self, names: Sequence[str], limit_s: float) -> list[str]:
        """As many as fit into a time, one at least."""
        held, spent = [], 0.0
        for name in names:
            spent += self.times[name]
            if held and spent > limit_s:
                break
            held.append(name)
        return held


def run_tests(names: Sequence[str], cpu_s: float, change: tuple[Path, ast.Module, Mutant] | None) -> str:
    """Run tests in a fork.

    Returns:
        `survived`; or `killed` by a test, `import` where the tests cannot even be collected, `stopped` where
        they take too long or the process dies.

    Raises:
        RuntimeError: pytest did not run these tests.
    """
    child = os.fork()
    if child == 0:
        status = NOT_RUN
        try:
            status = _tests_here(names, cpu_s, change)
        finally:
            os._exit(status)
    began = time.monotonic()
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - began > 20 * cpu_s:
            os.kill(child, 9)
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    if code < 0 or code in WORDS:
        return WORDS.get(code, "stopped")
    log = LOG.read_text(encoding="utf-8") if code == 4 and change else ""
    if "\nERROR tests/" in log:
        return "import"  # of a file whose tests were named
    missing = [line for line in log.splitlines() if line.startswith("ERROR: not found: ")]
    gone = tuple(line.rpartition(f"{ROOT}/")[2] for line in missing)  # named after what was changed
    left = [
        name for name in names if name not in gone and not name.startswith(tuple(f"{one}[" for one in gone))
    ]
    if len(left) < len(names):
        return run_tests(left, cpu_s, change) if left else "survived"
    raise RuntimeError(f"pytest ended with {code}: see {LOG}; the tests were {names[:3]} …")


def _tests_here(names: Sequence[str], cpu_s: float, change: tuple[Path, ast.Module, Mutant] | None) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_s) + 1, int(cpu_s) + 5))
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if change:
        path, tree, mutant = change
        mutant.apply()
        code = compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)
        sys.meta_path.insert(0, Mutated(path, code))
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    flags = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--basetemp", f"{LOG}.d", "--tb=short"]
    flags += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    code = pytest.main([*flags, *names], plugins=[Quick()])
    if not change and code == 0:
        ours = [name for name, module in sys.modules.items() if not _is_ours(module)]
        Path(f"{LOG}.modules").write_text("\n".join(ours), encoding="utf-8")
    sys.stdout.flush()
    return int(code)


def _is_ours(module: Any) -> bool:
    file = getattr(module, "__file__", None) or ""
    return file.startswith(str(ROOT)) and "site-packages" not in file


def prepare(names: Sequence[str], cpu_s: float) -> None:
    """See that the tests pass without a change; import what they import from elsewhere.

    Raises:
        RuntimeError: they do not pass.
    """
    if run_tests(names, cpu_s, None) != "survived":
        raise RuntimeError(f"tests fail as the code is: {LOG}")
    for name in Path(f"{LOG}.modules").read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(Exception):  # names of modules that make themselves
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # pytest collects garbage at its end: not among all that PyTorch holds


def chosen(room: Path, sample: int, seed: int) -> list[tuple[Path, int]]:
    """A sample of the mutants below a folder, each a file and a place in `mutants` of it.

    A smaller sample of the same seed is the beginning of a larger one.
    """
    files = sorted(room.rglob("*.py")) if room.is_dir() else [room]
    every = [(file, at) for file in files for at in range(len(mutants(_tree(file))))]
    print(f"{room.relative_to(ROOT)}: {len(every)} mutants", flush=True)
    return random.Random(seed).sample(every, len(every))[: sample or None]


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def wilson(killed: int, tried: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, weight = killed / tried, 1 + z * z / tried
    middle = (share + z * z / (2 * tried)) / weight
    half = z / weight * ((share * (1 - share) + z * z / (4 * tried)) / tried) ** 0.5
    return middle - half, middle + half


def try_all(room: Path, tests: Tests, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Try the sample; each result is a line of --out as soon as it is there."""
    todo = chosen(room, options.sample, options.seed)
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    if options.again:
        done = [line for line in done if line["word"] != "survived"]
        options.out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in done))
    known = {(ROOT / line["file"], line["at"]) for line in done}
    plans = {
        (file, at): tests.of(file, mutants(_tree(file))[at]) for file, at in todo if (file, at) not in known
    }
    first = {name for names in plans.values() for name in tests.quick(names)}
    if first:
        prepare(sorted(first), 600 + 3 * sum(tests.times[name] for name in first))
    for (file, at), names in plans.items():
        tree = _tree(file)
        mutant, word = mutants(tree)[at], "survived"
        quick = tests.quick(names)
        others = [name for name in names if name not in set(quick)]
        for some in (quick, tests.within(others, options.longest)):
            if word == "survived" and some:
                limit = 20 + 5 * sum(tests.times[name] for name in some)
                word = run_tests(some, limit, (file, tree, mutant))
        short = file.relative_to(ROOT).as_posix()
        done.append({"file": short, "at": at, "word": word, "tests": len(names), "change": str(mutant)})
        with options.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(done[-1], ensure_ascii=False) + "\n")
    return [line for line in done if (ROOT / line["file"], line["at"]) in set(todo)]


def main() -> None:
    """Try the mutants of the rooms of the command line, and say which survive."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("room", type=Path, help="a folder or a file of osr/")
    parser.add_argument("--times", type=Path, nargs="+", required=True, help="of pytest --junitxml")
    parser.add_argument("--coverage", type=Path, default=Path(".coverage"))
    parser.add_argument("--out", type=Path, required=True, help="a line of JSON per mutant")
    parser.add_argument("--sample", type=int, default=0, help="how many; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--slowest", type=float, default=float("inf"), help="seconds of the slowest test used"
    )
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of tests of a survivor")
    parser.add_argument("--again", action="store_true", help="try the survivors in --out again")
    options = parser.parse_args()
    os.chdir(ROOT)
    times = {name: took for name, took in seconds_of_tests(options.times).items() if took < options.slowest}
    tests = Tests(options.coverage, times)
    done = try_all(options.room.resolve(), tests, options)
    words = Counter(line["word"] for line in done)
    killed, tried = len(done) - words["survived"], len(done)
    low, high = wilson(killed, tried)
    for line in done:
        if line["word"] == "survived":
            print(f"survived ({line['tests']} tests): {line['file']}:{line['change']}")
    told = f"{killed} of {tried} killed ({words['import']} at import, {words['stopped']} by time)"
    print(f"{told}: {killed / tried:.1%} [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    main()
