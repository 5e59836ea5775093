"""What mutation testing changes (tests/mutants.py), and what it leaves alone."""

import ast

import pytest
from mutants import mutants


def changed(source: str) -> set[str]:
    """What a source becomes, each time with one change."""
    texts = set()
    for at in range(len(mutants(ast.parse(source)))):
        tree = ast.parse(source)
        mutants(tree)[at].apply()
        texts.add(ast.unparse(ast.fix_missing_locations(tree)))
    return texts


@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("a < b", {"a <= b"}),
        ("a + b // 2", {"a - b // 2", "a + b / 2", "a + b // 3"}),
        ("a and not b", {"a or not b", "a and b"}),
        ("x += 0.5", {"x -= 0.5", "x += 1.5"}),
        ("x = values.argmin(axis=-1)", {"x = values.argmax(axis=-1)", "x = values.argmin(axis=1)",
                                        "x = values.argmin(axis=-2)"}),
        ("run(True)", {"run(False)", "pass"}),
        ("d = kind == 'left'", {"d = kind != 'left'", "d = kind == 'XXleftXX'"}),
        ("def f(x: int = 1) -> str:\n    return x", {"def f(x: int=2) -> str:\n    return x",
                                                     "def f(x: int=1) -> str:\n    return None"}),
        ("class C:\n    x: Annotated[int, Field(ge=1)]", {"class C:\n    x: Annotated[int, Field(ge=2)]"}),
        ("for x in y:\n    if x:\n        continue",
         {"for x in y:\n    if not x:\n        continue", "for x in y:\n    if x:\n        break"}),
        ("if x > 0:\n    raise ValueError(f'{x} is above', 'zero')",
         {f"if x {sign} {number}:\n    {body}" for sign, number, body in (
             (">=", 0, "raise ValueError(f'{x} is above', 'zero')"),
             (">", 1, "raise ValueError(f'{x} is above', 'zero')"), (">", 0, "pass"))}),
    ],
)  # fmt: skip
def test_a_source_is_changed_in_one_place_at_a_time(source, becomes):
    assert changed(source) == becomes


@pytest.mark.parametrize(
    "source",
    [
        '"""What this is."""\n__all__ = ["f"]',
        "from x import y",
        "if TYPE_CHECKING:\n    x = 1",
        "@lru_cache(8)\ndef f(x: Literal['a']) -> tuple[Literal[1]]:\n    return None",
    ],
)
def test_what_no_run_reads_stays(source):
    assert changed(source) == set()


def test_lines_are_those_of_the_statement():
    source = "def f(\n    x=1,\n):\n    return g(\n        x,\n        2,\n    )\n"
    found = {(mutant.line, mutant.first, mutant.last) for mutant in mutants(ast.parse(source))}
    assert found == {(2, 1, 3), (4, 4, 7), (6, 4, 7)}
