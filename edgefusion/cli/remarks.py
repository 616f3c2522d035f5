"""``--remarks [PATTERN]``: what passes rewrote and what they nearly did, chosen by name, as lines.

Lines and not a table: each is whole, however long its reason, and ``grep`` finds it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgefusion.cli.options import near_names
from edgefusion.compiler.bundle.remarks import Remark
from edgefusion.runtime.errors import UsageError

Chosen = Callable[[str, Remark], bool]
"""Whether the remark on a component is wanted."""
_OPTION = "--remarks"
_ALL = "*"
_WILD = re.compile(r"[*?\[]")

RemarksOption = Annotated[
    str | None,
    typer.Option(
        _OPTION,
        metavar="[PATTERN]",
        help="Show what passes rewrote (matched), what looked like it and was not (missed), and "
        "why. PATTERN: a component, pass, op or module with all in it, a glob of these, `missed`, "
        "or /REGEX/ of the line; all when left out. `--json` always has all.",
    ),
]


class RemarksCommand(TyperCommand):
    """A command whose ``--remarks`` may stand without a value, before another option or last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As ever, with the value that was left out."""
        following = [*args, "-"][1:]
        given = [
            f"{each}={_ALL}" if each == _OPTION and after.startswith("-") else each
            for each, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, given)


def chosen_by(pattern: str) -> Chosen:
    """What ``pattern`` means. Raises UsageError for a regular expression that is none."""
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        try:
            expression = re.compile(pattern[1:-1])
        except re.error as error:
            raise UsageError(f"{_OPTION} {pattern} is no regular expression: {error}.") from error
        return lambda component, remark: any(
            map(expression.search, (_line(component, remark), *remark.origin))
        )
    if _WILD.search(pattern):
        return lambda component, remark: any(
            fnmatchcase(name, pattern) for name in _names(component, remark)
        )
    return lambda component, remark: any(
        name == pattern or name.startswith(f"{pattern}.") for name in _names(component, remark)
    )


def _names(component: str, remark: Remark) -> tuple[str, ...]:
    return (component, remark.pass_name, remark.kind, remark.node, remark.scope, *remark.origin)


def _line(component: str, remark: Remark) -> str:
    return f"{component}: {remark}"


def remark_lines(remarks: Mapping[str, Iterable[Remark]], pattern: str) -> list[str]:
    """The remarks of each component that ``pattern`` chooses, and how many of each kind."""
    chosen = chosen_by(pattern)
    every = [(component, remark) for component, made in remarks.items() for remark in made]
    found = [(component, remark) for component, remark in every if chosen(component, remark)]
    if not found:
        known = {name for pair in every for name in _names(*pair)}
        hint = near_names(pattern, sorted(known))
        return [f"no remark matches {pattern}, of {len(every)}.{hint}"]
    kinds = Counter(remark.kind for _, remark in found)
    told = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return [*(_line(*pair) for pair in found), f"remarks: {told}", ""]
