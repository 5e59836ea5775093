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
        found = next((n for n in range(at, len(printed)) if alike(line, printed[n])), None)
        if found is None:
            raise WalkError(f"not printed: {line!r}\nprinted:\n{output[-3000:]}")
        said.append(line if "…" in line else printed[found].rstrip())
        at = found + 1
    return "".join(f"{line}\n" for line in said)


def alike(shown: str, printed: str) -> bool:
    """Whether the words are the same; numbers are compared by `far_apart`."""

    def bare(text: str) -> str:
        return re.sub(r"[ -]+", " ", NUMBER.sub("#", text)).strip()

    parts = (re.escape(bare(part)) for part in shown.split("…"))
    return re.fullmatch(".*".join(parts), bare(printed)) is not None


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
