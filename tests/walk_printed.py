"""What a page shows of an output beside what was printed: the same words, numbers that machines may make."""

import re

NUMBER = re.compile(r"\d+(?:,\d{3}(?!\d))*(?:\.\d+)*")


class WalkError(Exception):
    """A block ended with another status, or printed something else, than its page says."""


def as_printed(shown: str, output: str) -> str:
    """The shown lines as they were printed; refuses lines that were not, in this order."""
    printed = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
    said, at = [], 0
    for line in shown.splitlines():
        if line.strip() in ("", "…", "..."):
            said.append(line)
            continue
        found = {n: new for n in range(at, len(printed)) if (new := made(line, printed[n])) is not None}
        if not found:
            raise WalkError(f"not printed: {line!r}\nprinted:\n{output[-3000:]}")
        at = next((n for n, new in found.items() if new == line.rstrip()), min(found))
        said.append(found[at])
        at += 1
    return "".join(f"{line}\n" for line in said)


def made(shown: str, printed: str) -> str | None:
    """A printed line, cut where the shown one is; None where the words are others.

    Numbers are compared by `far_apart`.
    """
    number, gap = rf"(?<!\d)(?<!\d\.){NUMBER.pattern}(?!\d)", "[ -]+"

    def words(part: str) -> str:
        pieces = re.split(f"({NUMBER.pattern}|{gap})", part)
        like = (
            number if NUMBER.fullmatch(one) else gap if re.fullmatch(gap, one) else re.escape(one)
            for one in pieces
        )
        return "".join(like)

    parts = (f"({words(part)})" for part in shown.strip().split("…"))
    found = re.fullmatch(rf"[ -]*{'.*'.join(parts)}[ -]*", printed)
    if found is None:
        return None
    if "…" not in shown:
        return printed.rstrip()
    indent = "" if shown.strip().startswith("…") else printed[: found.start(1)]
    return indent + "…".join(found.groups())


def far_apart(shown: str, printed: str) -> list[tuple[str, str]]:
    """Numbers of two texts of the same words that differ by more than machines do."""
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return [(one, other) for one, other in pairs if not near(one, other)]


def near(one: str, other: str) -> bool:
    """Within a quarter and 0.1, counts also within twice their root; texts like 1.2.3 must be the same."""
    try:
        first, second = (float(text.replace(",", "")) for text in (one, other))
    except ValueError:
        return one == other
    largest = max(first, second)
    chance = 2 * largest**0.5 if one.isdigit() and other.isdigit() else 0.0
    return abs(first - second) <= 0.1 + 0.25 * largest + chance
