"""The one error for bad input: its message is a sentence for the user, shown without a traceback."""

from importlib.metadata import version


class InputError(ValueError):
    """A setting, file or data set breaks a rule; the message names it, rule, value and choices."""


# In what torchvision raises where it finds another PyTorch than that it was built for.
OTHER_BUILD = "operator torchvision::"


def sentence_of(error: BaseException) -> str | None:
    """What to say of bad input, and of torch and torchvision of different builds; None of other errors."""
    if isinstance(error, InputError):
        return str(error)
    if OTHER_BUILD not in str(error):
        return None
    held = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    return f"{held} are not built for each other: install both anew, in one go and from one place."


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
