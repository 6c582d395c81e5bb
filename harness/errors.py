"""The errors a user can cause. Each message has the wrong value, the rule, and what to do about it."""

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Something the user gave cannot be used; the command line prints the message without a traceback."""


class ConfigError(HarnessError):
    """A configuration value is unknown, of the wrong kind, or contradicts another one."""


class InfeasibleError(HarnessError):
    """No architecture satisfies the targets; the message names the violated bound (paper, Eq. 5 and section 5.1)."""


class DataError(HarnessError):
    """A dataset is missing, differs from the one planned, or is too small."""


class RunError(HarnessError):
    """A run directory belongs to another experiment, is owned by another process, or is of a newer schema."""


def nearest(word: object, choices: Iterable[object], most: int = 3) -> str:
    """``; did you mean 'a' or 'b'?`` for the choices most like `word`, or the empty string where none is."""
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=most, cutoff=0.5)
    return f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
