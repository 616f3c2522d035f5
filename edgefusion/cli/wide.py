"""``--wide``: one option of every command that prints tables, added in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Annotated, Any

import typer
from typer.main import get_command

_PRINTS_TABLES = "json_to"
"""The parameter that every reporting command has."""
_WIDE: ContextVar[bool] = ContextVar("wide", default=False)


def wide_wanted() -> bool:
    """Whether tables are shown with all their columns, however narrow the terminal."""
    return _WIDE.get()


def with_wide(command: Any) -> Any:
    """``command`` of typer, or all those of a group; those that report take ``--wide``."""
    for each in getattr(command, "commands", {}).values():
        with_wide(each)
    names = [parameter.name for parameter in command.params]
    if _PRINTS_TABLES not in names or "wide" in names:
        return command
    command.params.append(_option())
    run = command.callback

    @wraps(run)
    def shown(*, wide: bool = False, **values: Any) -> Any:
        with _showing(wide):
            return run(**values)

    command.callback = shown
    return command


def _option() -> Any:
    """The parameter as typer makes it, whose own classes differ from release to release."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def _(
        wide: Annotated[
            bool,
            typer.Option("--wide", help="Show all columns of tables, however narrow the terminal."),
        ] = False,
    ) -> None:
        """Holds the option alone."""

    return next(each for each in get_command(app).params if each.name == "wide")


@contextmanager
def _showing(wide: bool) -> Iterator[None]:
    before = _WIDE.set(wide)
    try:
        yield
    finally:
        _WIDE.reset(before)
