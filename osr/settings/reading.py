"""Files of settings, read with the parser that DVC uses, and what no setting in them may be."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError, MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from osr.errors import InputError

MAX_BYTES = 4_000_000
MAX_VALUES = 100_000  # aliases counted as often as they stand for something
MAX_DEPTH = 50
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


class _Counting(Composer):
    """Stops at the key or value that is one too many."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.num_values, self.warn_double_anchors = 0, False

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"it must hold at most {MAX_VALUES:,} keys and values", mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """What a text of settings holds, unchecked but for its size.

    Raises:
        ValueError: the text is no YAML, nested without end, or longer than any settings; the message is the
            rest of a sentence that begins with the name of the text.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"must have at most {MAX_BYTES:,} characters, not {len(text):,}")
    return deepcopy(_parsed(text))


@lru_cache(maxsize=8)  # a command reads params.yaml several times, and the parser takes 30 ms for it
def _parsed(text: str) -> Any:
    """As `parse_yaml`; what it returns is not to be changed."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Counting
    yaml.max_depth = MAX_DEPTH + 1  # the parser's time grows with its square
    try:
        return yaml.load(text)
    except MaxDepthExceededError:
        raise ValueError(f"must be nested less deeply, in at most {MAX_DEPTH} levels") from None
    except YAMLError as error:
        raise ValueError(f"is not valid YAML{_yaml_problem(error)}") from None
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:  # of !!bool 12 ...
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"is not valid YAML: a value in it cannot be read ({reason})") from None


def read_yaml(path: Path) -> Any:
    """What a file of settings holds, unchecked but for what no program could walk through or write.

    Raises:
        InputError: the file is missing or is no YAML, is nested without end, or holds text that is no text.
    """
    try:
        text = _text(path)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing: every setting of the experiment stands in it. Go into your project (the "
            "folder with params.yaml), or make one with `osr init`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from None
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{path} {error}.") from None
    check_tree(content, source=str(path))
    return content


def _text(path: Path) -> str:
    """The text of a file, of one that is too long its beginning.

    Raises:
        OSError: it is missing, or no file.
        UnicodeDecodeError: it is no UTF-8.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError("it is a pipe, a socket or a device")
    with path.open(encoding="utf-8") as file:
        return file.read(MAX_BYTES + 1)


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
