"""The one error for bad input: its message is a sentence for the user, shown without a traceback."""

from importlib.metadata import version


class InputError(ValueError):
    """A setting, file or data set breaks a rule; the message names it, rule, value and choices."""


# In what torchvision raises where it finds another PyTorch than that it was built for.
OTHER_BUILD = "operator torchvision::"


def other_build() -> str:
    """A sentence on torch and torchvision of different builds, such as one with CUDA and one without."""
    held = " and ".join(f"{name} {version(name)}" for name in ("torch", "torchvision"))
    return f"{held} are not built for each other: install both anew, in one go and from one place."


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
