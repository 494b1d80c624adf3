"""Exceptions for mistakes of a user: what failed, the value, what is expected, what to do."""

import errno


class UserError(Exception):
    """A mistake that the commands print as one sentence, without a traceback."""


class ConfigError(UserError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class DataError(UserError):
    """The data set is missing, broken, or cannot be split as asked."""


class RunError(UserError):
    """A checkpoint or a run folder is missing, damaged, or doesn't fit."""


def error_message(error: UserError | OSError) -> str:
    """Return the message for a terminal; a full disk without a file is that of the output."""
    if not isinstance(error, OSError):
        return sanitize(str(error))
    reason = error.strerror or " ".join(map(str, error.args)) or type(error).__name__
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    place = error.filename or ("standard output" if full else "")
    return sanitize(f"{reason}: {place}" if place else reason)


def sanitize(text: str) -> str:
    """Replace characters that would move a terminal's cursor or change its colors."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
