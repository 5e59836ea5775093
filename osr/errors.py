"""The one error for bad input: its message is a sentence for the user, shown without a traceback."""


class InputError(ValueError):
    """A setting, file or data set breaks a rule; the message names it, rule, value and choices."""


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its name where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
