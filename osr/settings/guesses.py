"""Which choice a mistyped word may stand for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# What else methods are called, in small letters without spaces and signs.
OTHER_NAMES = {
    "ce": ("crossentropy", "softmax", "nll"),
    "outlier_exposure": ("oe",),
    "kplus1": ("k+1", "n+1"),
    "msp": ("softmax", "maxsoftmax", "maximumsoftmaxprobability"),
    "maxlogit": ("mls", "maximumlogit", "maxlogits"),
    "energy": ("ebo",),
    "mahalanobis": ("mds",),
    "openmax": ("evt",),
}
_MAX_LENGTH = 200  # of a word that is compared


def did_you_mean(word: str, choices: Iterable[str], section: str = "") -> str:
    """The end of a sentence that names the nearest choice, whatever the case; empty when none is near."""
    of_lower = {choice.lower(): choice for choice in choices}
    asked = word[:_MAX_LENGTH].lower()
    of_others = [name for name in of_lower if re.sub(r"[\s_-]", "", asked) in OTHER_NAMES.get(name, ())]
    guesses = of_others or difflib.get_close_matches(asked, of_lower, n=1)
    return f"; did you mean {dotted(section, of_lower[guesses[0]])!r}?" if guesses else ""


def none_of(told: str, word: str, choices: Iterable[str], rule: str) -> str:
    """A sentence on a word that is no choice, without its full stop: the nearest stands before long lists.

    Args:
        told: whose the word is, such as "--detector is 'knnn'".
        word: as it was written.
        choices: one of which may be meant.
        rule: what it must be, which names the choices.
    """
    guess = did_you_mean(word, choices)
    return f"{told}{guess} It must be {rule}" if guess else f"{told}, but must be {rule}"


def dotted(prefix: str, name: str) -> str:
    """A key with the section it stands in."""
    return f"{prefix}.{name}" if prefix else name
