"""Which ops a text means: a name, a module path, or a pattern of either.

One meaning wherever ops are named. A name or path may begin with its component
(``unet.node_view_4``), which two components with an op of one name need; a module path stands for
all ops in it; ``*``, ``?`` and ``[...]`` are patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Protocol, TypeVar

from edgefusion.runtime.errors import UsageError

_NEAR = 0.5
_LISTED = 4
_WILD = frozenset("*?[")


class Named(Protocol):
    """What is chosen by name: an op of a component, and the module that it comes from."""

    @property
    def component(self) -> str:
        """Of the pipeline."""

    @property
    def name(self) -> str:
        """Unique in its component."""

    @property
    def module(self) -> str:
        """Path in the checkpoint, or the name."""


NamedOp = TypeVar("NamedOp", bound=Named)


def select_ops(ops: Sequence[NamedOp], texts: Sequence[str]) -> tuple[NamedOp, ...]:
    """The ops that any of ``texts`` means, in their order.

    Raises UsageError, with the nearest names, for a text that means none.
    """
    chosen: set[int] = set()
    for text in texts:
        found = _meant(ops, text)
        if not found:
            raise UsageError(_nothing(ops, text))
        chosen.update(found)
    return tuple(ops[i] for i in sorted(chosen))


def select_one_name(ops: Sequence[NamedOp], text: str) -> tuple[NamedOp, ...]:
    """As ``select_ops`` of one text; UsageError for a plain name that two components have."""
    found = select_ops(ops, [text])
    if len(found) > 1 and all(op.name == text for op in found):
        listed = ", ".join(f"{op.component}.{op.name} ({op.module})" for op in found)
        raise UsageError(f"{text} is the name of {len(found)} ops: {listed}. Say which.")
    return found


def _meant(ops: Sequence[NamedOp], text: str) -> list[int]:
    named = [i for i, op in enumerate(ops) if text in (op.name, f"{op.component}.{op.name}")]
    if named:
        return named
    within = [i for i, op in enumerate(ops) if any(_holds(text, p) for p in _paths(op))]
    if within or not _WILD & set(text):
        return within
    return [
        i
        for i, op in enumerate(ops)
        if any(fnmatchcase(each, text) for each in (*_names(op), *_paths(op)))
    ]


def _names(op: Named) -> tuple[str, str]:
    return op.name, f"{op.component}.{op.name}"


def _paths(op: Named) -> tuple[str, str]:
    return op.module, f"{op.component}.{op.module}"


def _holds(module: str, path: str) -> bool:
    """Whether ``path`` is ``module`` or lies in it."""
    return path == module or path.startswith(f"{module}.")


def _nothing(ops: Sequence[Named], text: str) -> str:
    near = list(dict.fromkeys(_nearest(ops, text)))
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif _WILD & set(text):
        hint = "A pattern is compared with whole names and module paths; * stands for any part."
    else:
        some = ", ".join(f"{op.component}.{op.name}" for op in ops[:_LISTED])
        hint = f"There are {len(ops)} ops, {some} and others." if ops else "There are no ops."
    return f"no op or module is called {text!r}. {hint}"


def _nearest(ops: Sequence[Named], text: str) -> Iterator[str]:
    if _WILD & set(text):
        return
    spellings: dict[str, None] = {}
    for op in ops:
        for name in (*_names(op), *_paths(op)):
            spellings[name] = None
        for path in _paths(op):
            parts = path.split(".")
            spellings |= dict.fromkeys(".".join(parts[:n]) for n in range(1, len(parts)))
    close = get_close_matches(text, spellings, _LISTED, _NEAR)
    yield from close
    if not close and len(text) > 1:
        yield from [each for each in spellings if text.casefold() in each.casefold()][:_LISTED]
