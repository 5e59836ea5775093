"""Small changes of a source file, each of which a test should notice (DeMillo, Lipton and Sayward 1978).

What is changed: comparisons, arithmetic, `and` and `or`, `not`, signs, numbers, texts that are no message,
conditions, what a function returns, whether a statement that calls or raises is there, and a few functions
that come in pairs (`min` and `max`). Not changed: docstrings, messages, annotations (but for the limits in
`Field(...)`), decorators.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
PAIRS = (("min", "max"), ("argmin", "argmax"), ("amin", "amax"), ("any", "all"), ("zeros", "ones"))
PAIRS += (("minimum", "maximum"), ("floor", "ceil"), ("zeros_like", "ones_like"), ("cumsum", "cumprod"))
NAMES = dict(PAIRS) | {second: first for first, second in PAIRS}


@dataclass(frozen=True)
class Mutant:
    """A change: `node`, which `holder` has at `key`, becomes `put`.

    `first` and `last` are the lines of the statement, without what stands below it.
    """

    holder: Any
    key: Any
    node: Any
    put: Any
    statement: Any
    first: int
    last: int

    @property
    def line(self) -> int:
        """Where it is."""
        places = (getattr(node, "lineno", None) for node in (self.node, self.holder, self.statement))
        return next(place for place in places if place)

    def apply(self) -> None:
        """Change the tree."""
        if isinstance(self.holder, list):
            self.holder[self.key] = self.put
        else:
            setattr(self.holder, self.key, self.put)

    def __str__(self) -> str:
        node, put = self.node, self.put
        within = "" if node is self.statement else f", in {_text(self.statement)}"
        if isinstance(node, ast.If):
            return f"{self.line}: if {_text(node.test)}  ->  if {_text(put.test)}"
        if isinstance(node, ast.operator | ast.cmpop | ast.boolop):
            return f"{self.line}: {type(node).__name__}  ->  {type(put).__name__}{within}"
        return f"{self.line}: {_text(node)}  ->  {_text(put)}" + (
            within if node is not self.statement else ""
        )


def mutants(tree: ast.Module) -> list[Mutant]:
    """Every change of a tree, in the order of its nodes; none is applied."""
    return list(_inside(tree, tree, said=False))


def _inside(node: ast.AST, statement: ast.AST, *, said: bool) -> Iterator[Mutant]:
    """The changes below a node; `said`: below something whose texts are read by people alone."""
    for holder, key, child in _children(node):
        if isinstance(child, ast.expr_context) or _is_for_types(child):
            continue
        within = child if isinstance(child, ast.stmt) else statement
        quiet = said or isinstance(child, ast.Raise | ast.JoinedStr)
        for put in _changes(child, said=quiet):
            yield _mutant(holder, key, child, put, within)
        yield from _inside(child, within, said=quiet)


def _children(node: ast.AST) -> Iterator[tuple[Any, Any, Any]]:
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns") and isinstance(value, ast.AST):
            if isinstance(node, ast.AnnAssign):
                yield from (
                    (holder, key, child)
                    for call in ast.walk(value) if isinstance(call, ast.Call)
                    for holder, key, child in _children(call)
                )  # fmt: skip
        elif field == "decorator_list" or _is_left_out(node):
            continue
        elif isinstance(value, list):
            for at, child in enumerate(value):
                if isinstance(child, ast.AST) and not _is_docstring(child):
                    yield value, at, child
        elif isinstance(value, ast.AST):
            yield node, field, value


def _is_left_out(node: ast.AST) -> bool:
    """Imports, and the lists of names that `import *` takes."""
    exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    return exported or isinstance(node, ast.Import | ast.ImportFrom)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _changes(node: Any, *, said: bool) -> Iterator[Any]:
    """What a node may become."""
    if type(node) in OPERATORS:
        yield OPERATORS[type(node)]()
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value, said=said)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Name(NAMES[node.id], ast.Load())
    elif isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Attribute(node.value, NAMES[node.attr], ast.Load())
    elif isinstance(node, ast.Return) and getattr(node.value, "value", node) is not None:
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield ast.Pass()
    elif isinstance(node, ast.Break | ast.Continue):
        yield ast.Continue() if isinstance(node, ast.Break) else ast.Break()
    elif isinstance(node, ast.If | ast.IfExp) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def _constants(value: Any, *, said: bool) -> Iterator[ast.Constant]:
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and not said:
        yield ast.Constant(f"XX{value}XX")


def _mutant(holder: Any, key: Any, node: Any, put: Any, statement: Any) -> Mutant:
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if isinstance(body, list) else statement.end_lineno
    ast.copy_location(put, node if hasattr(node, "lineno") else statement)
    return Mutant(holder, key, node, put, statement, statement.lineno, max(last, statement.lineno))


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 110 else f"{text[:110]}…"
