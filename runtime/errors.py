"""The errors a user can cause, each with the exit code that the command line returns.

Every message says what is wrong, where, what was expected and found, and what to do next.
The command line prints it as one paragraph, never as a traceback.
"""

from __future__ import annotations

from typing import ClassVar


def in_brief(text: object, characters: int = 300) -> str:
    """What a library says, to be told within a sentence: on one line, without its full stop, ended
    at a word with an ellipsis where it is longer than ``characters``."""
    words = " ".join(str(text).split()).rstrip(".")
    if len(words) <= characters:
        return words
    return f"{words[: characters - 1].rsplit(' ', 1)[0]} …"


class EdgeFusionError(Exception):
    """Base of all errors a user can act on; anything else that escapes is a defect of ours."""

    exit_code: ClassVar[int] = 1


class UsageError(EdgeFusionError):
    """The command or the call was put together wrongly."""

    exit_code = 2


class InputError(EdgeFusionError):
    """A checkpoint, graph, bundle or target file is missing, damaged or inconsistent."""

    exit_code = 3


class UnsupportedOpError(EdgeFusionError):
    """A graph holds an op that neither the NPU nor the host can run."""

    exit_code = 4


class DoesNotFitError(EdgeFusionError):
    """Something does not fit the machine, or a stated budget is exceeded."""

    exit_code = 5


class NumericGateError(EdgeFusionError):
    """Computed values miss a stated accuracy."""

    exit_code = 6


class RegressionError(EdgeFusionError):
    """A measured figure is worse than its recorded baseline."""

    exit_code = 7
