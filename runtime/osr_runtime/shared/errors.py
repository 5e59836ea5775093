"""The one error for bad input: its message is a sentence for the user, shown without a traceback."""


class InputError(ValueError):
    """A setting, file or data set breaks a rule; the message names it, rule, value and choices."""
