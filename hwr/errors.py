"""Mistakes of a user: each is one sentence that says what is wrong, where, and what to do."""

MOST_PIXELS = 4_000_000
"""Of an array: who asks for more, in settings or a model's file, has made a mistake."""


class UserError(Exception):
    """A mistake that the commands print as one sentence, without a traceback."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class DataError(UserError):
    """The data set is missing, broken, or cannot be split as asked."""


class RunError(UserError):
    """A checkpoint or a run folder is not what it should be."""


def sentence(error: UserError | OSError) -> str:
    """What went wrong, for a terminal; where the system names no file, it is the output."""
    if isinstance(error, OSError):
        return printable(f"{error.strerror}: {error.filename or 'standard output'}")
    return printable(str(error))


def printable(text: str) -> str:
    """Text without the characters that would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
