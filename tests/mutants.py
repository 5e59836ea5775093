"""A random sample of the mutants of a session of cosmic-ray, and what became of them; `.ci/mutants` calls it.

    python tests/mutants.py SESSION COUNT SEED      # all but COUNT of them are skipped
    python tests/mutants.py SESSION                 # how many were killed, and which were not

A place of the code counts once, however many operators could stand there: one of its changes is drawn. Left
out is what no test can notice, by rule: `*` and `/` in signatures (Python cannot read it changed, or callers
name the argument anyway), `|` in annotations, `strict=` of a zip whose lengths agree by construction, and how
much is worked on at once (`SIZES`), on which time and memory depend alone.
"""

from __future__ import annotations

import ast
import random
import sys
import warnings
from collections import defaultdict

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkResult
from scipy.stats import binomtest

SIZES = frozenset(
    {
        *(
            "_AT_ONCE",
            "_BYTES",
            "_GROUP",
            "_IN_CACHE",
            "_MIN_BLOCK",
            "_NUM_BLOCKS",
            "_ROWS",
            "_SORTED",
            "_TILE",
        ),
        *("BLOCK_ELEMENTS", "CHUNK_BYTES", "ROWS", "SMALL_CHUNK", "WINDOW"),
    }
)


def draw(session: WorkDB, count: int, seed: int) -> None:
    """Skip all mutants but `count` random ones."""
    rng = random.Random(seed)
    pending = {item.job_id: item.mutations[0] for item in session.pending_work_items}
    places = defaultdict(list)
    for job, change in pending.items():
        places[str(change.module_path), change.start_pos].append((change.operator_name, job))
    drawn: set[str] = set()
    for place in rng.sample(sorted(places), len(places)):
        if len(drawn) == count:
            break
        changes = [job for _, job in sorted(places[place]) if _changes_code(pending[job])]
        drawn.update(rng.sample(changes, min(1, len(changes))))
    left_out = [job for job in pending if job not in drawn]
    session.set_multiple_results(left_out, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    print(f"{len(places)} places, {len(drawn)} drawn")


def _changes_code(change: MutationSpec) -> bool:
    operator = get_operator(change.operator_name)(**change.operator_args)
    code = change.module_path.read_text(encoding="utf-8")
    try:
        return _bare(mutate_code(code, operator, change.occurrence)) != _bare(code)
    except SyntaxError:
        return False


class _Bare(ast.NodeTransformer):
    """Takes out what no test can notice."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        self.generic_visit(node)
        named = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        defaults = [*node.defaults, *filter(None, node.kw_defaults)]
        return ast.arguments([], named, node.vararg, [], [], node.kwarg, defaults)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return ast.keyword(node.arg, ast.Constant(None)) if node.arg == "strict" else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in SIZES:
            node.value = ast.Constant(None)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _bare(code: str) -> str:
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
        return ast.dump(_Bare().visit(ast.parse(code)))


def report(session: WorkDB) -> None:
    """Print the mutants that survived, and how many were killed, with Wilson's interval."""
    results = [result for _, result in session.results if result.worker_outcome != WorkerOutcome.SKIPPED]
    for result in results:
        if result.test_outcome != TestOutcome.KILLED:
            print(result.test_outcome, result.diff or result.output, sep="\n")
    killed = sum(result.test_outcome == TestOutcome.KILLED for result in results)
    low, high = binomtest(killed, len(results)).proportion_ci(method="wilson")
    print(f"killed {killed} of {len(results)}: {killed / len(results):.1%} [{low:.1%}, {high:.1%}]")


if __name__ == "__main__":
    with use_db(sys.argv[1]) as opened:
        draw(opened, *map(int, sys.argv[2:])) if sys.argv[2:] else report(opened)
