"""Files of settings, read with the parser that DVC uses, and what no setting in them may be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from osr.errors import InputError

MAX_VALUES = 100_000  # aliases counted as often as they stand for something
MAX_DEPTH = 50
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def read_yaml(path: Path) -> Any:
    """What a file of settings holds, unchecked but for what no program could walk through or write.

    Raises:
        InputError: the file is missing or is no YAML, is nested without end, or holds text that is no text.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: every setting of the experiment stands in it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from None
    except YAMLError as error:
        raise InputError(f"{path} is not valid YAML{_yaml_problem(error)}.") from None
    except RecursionError:
        raise InputError(f"{path} is not valid YAML: its brackets are nested too deeply.") from None
    except (ValueError, OverflowError) as error:  # of a date or a number that is none
        raise InputError(f"{path} is not valid YAML: a value in it cannot be read ({error}).") from None
    check_tree(content, source=str(path))
    return content


def check_tree(content: Any, *, source: str) -> None:
    """Refuse settings that cannot be walked through, and text that cannot be written.

    Raises:
        InputError: more than `MAX_VALUES` values or `MAX_DEPTH` levels, as a few aliases (`*name`) can make;
            a zero byte or half of a surrogate pair in a text.
    """
    _size(content, source, "", {}, ())


def _size(value: Any, source: str, key: str, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """How many values stand in a value, itself among them; each is walked through once."""
    if isinstance(value, str):
        _check_text(value, source, key)
        return 1
    if not isinstance(value, dict | list):
        return 1
    if id(value) in above:
        raise InputError(f"{source}: {key} holds itself, through an alias (`*name`).")
    if len(above) == MAX_DEPTH:
        raise InputError(f"{source}: {key} must be nested less deeply, in at most {MAX_DEPTH} levels.")
    if id(value) not in sizes:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        size = 1
        for name, inner in items:
            _check_text(str(name), source, key)
            place = f"{key}.{name}".lstrip(".") if isinstance(value, dict) else f"{key}[{name}]"
            size += _size(inner, source, place, sizes, (*above, id(value)))
        sizes[id(value)] = size
    if sizes[id(value)] > MAX_VALUES:
        raise InputError(
            f"{source}: {key or 'the file'} must hold at most {MAX_VALUES:,} values, its aliases (`*name`) "
            f"written out, not {sizes[id(value)]:,}."
        )
    return sizes[id(value)]


def _check_text(text: str, source: str, key: str) -> None:
    """Refuse what neither a file name nor a file of text can hold."""
    if _NO_TEXT.search(text):
        raise InputError(
            f"{source}: {key or 'a key'} holds {text[:100]!a}, but must be text without zero bytes and "
            "halves of surrogate pairs."
        )


def _yaml_problem(error: YAMLError) -> str:
    """Line and problem of a parser's error; without a mark, all it says."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: {error.problem}"
    return f": {' '.join(str(error).split())}"
